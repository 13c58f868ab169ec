"""CPU kernels of dff-edge. Use them through dff_edge.runtime."""

from collections.abc import Sequence

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
def check_jpeg(data: NDArray[np.uint8]) -> str | None: ...
def siftflow(
    first: NDArray[np.uint8],
    second: NDArray[np.uint8],
    flow: NDArray[np.float32],
    slow: bool,
    threads: int,
) -> None: ...
def nms(
    boxes: NDArray[np.float32],
    scores: NDArray[np.float32],
    threshold: float,
    kept: NDArray[np.int64],
) -> int: ...

class Detector:
    def __init__(
        self,
        height: int,
        width: int,
        classes: int,
        bins: int,
        anchors: Sequence[float],
        proposals_before_nms: int,
        proposals: int,
        detections: int,
        proposal_nms: float,
        min_score: float,
        nms: float,
        stride: float,
    ) -> None: ...
    def finish(
        self,
        objectness: NDArray[np.float32],
        deltas: NDArray[np.float32],
        class_maps: NDArray[np.float32],
        box_maps: NDArray[np.float32],
        boxes: NDArray[np.float32],
        scores: NDArray[np.float32],
        labels: NDArray[np.int32],
        threads: int,
    ) -> int: ...

class DlpackTensor:
    @property
    def pointer(self) -> int: ...
    @property
    def device(self) -> tuple[int, int]: ...
    @property
    def dtype(self) -> tuple[int, int, int]: ...
    @property
    def shape(self) -> list[int]: ...
    @property
    def strides(self) -> list[int]: ...

def import_dlpack(capsule: object) -> DlpackTensor: ...
def export_dlpack(
    owner: object,
    pointer: int,
    shape: Sequence[int],
    code: int,
    bits: int,
    device_type: int,
    device_id: int,
) -> object: ...
