"""CPU kernels of dff-edge. Use them through dff_edge.runtime."""

import numpy as np
from numpy.typing import NDArray

def warp(
    features: NDArray[np.float32],
    flow: NDArray[np.float32],
    scale: NDArray[np.float32] | None,
    out: NDArray[np.float32],
    threads: int,
) -> None: ...
def warp_bytes(
    features: NDArray[np.uint8],
    flow: NDArray[np.float32],
    scale: NDArray[np.uint8] | None,
    out: NDArray[np.uint8],
    features_zero: int,
    scale_zero: int,
    scale_step: float,
    threads: int,
) -> None: ...
def simd() -> str: ...
def decode(
    scores: NDArray[np.float32],
    out: NDArray[np.uint8],
    confidence: NDArray[np.uint8] | None,
    threads: int,
) -> None: ...
