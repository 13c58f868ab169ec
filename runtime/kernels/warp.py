"""Feature propagation on the device: warp key-frame features along a flow field.

Runs on every frame that is not a key frame, in the native kernel of
``plugins/warp``; this file checks the arrays and holds no maths.

Source: Zhu et al., "Deep Feature Flow for Video Recognition", CVPR 2017,
    https://arxiv.org/abs/1611.07715, section 3, Eq. (1)-(3).
Differs from the paper: nothing. A flow that is NaN or infinite, a case that the
paper leaves open, gives zero.

Shapes: N batch, C channels, h x w feature map; channels-last.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dff_edge import _native
from dff_edge.bundle.levels import MapLevels
from dff_edge.errors import ShapeError
from dff_edge.runtime.kernels.arrays import (
    check_array,
    check_no_overlap,
    check_threads,
    check_writeable,
)

Map = NDArray[Any]  # float32, or uint8 with levels


def warp_features(
    features: Map,
    flow: NDArray[np.float32],
    scale: Map | None = None,
    *,
    levels: MapLevels | None = None,
    out: Map | None = None,
    threads: int = 1,
) -> Map:
    """Propagate key-frame features to the current frame.

    Implements Eq. (1)-(2) of Zhu et al., CVPR 2017 (arXiv:1611.07715), and
    Eq. (3) when ``scale`` is given. Integer coordinates are cell centres; cells
    outside the map count as zero, and so does a flow that is NaN or infinite.
    Zero flow with scale one returns ``features`` to the bit. The call blocks, and
    releases the GIL while it computes. With ``out`` it allocates nothing.

    Maps are float32, or uint8 quantised by ``levels``. For bytes, each output is
    computed in float32 and rounded once, to the nearest byte of the features'
    levels, ties to even, and clipped to the range.

    Args:
        features: ``(N, h, w, C)``, features of the key frame.
        flow: float32 ``(N, h, w, 2)``, displacement ``(dx, dy)`` from the current
            to the key frame, in feature cells (not image pixels).
        scale: ``(N, h, w, C)``, multiplies the warped features. ``None`` means one
            everywhere.
        levels: of uint8 ``features`` and ``scale``; ``None`` for float32 ones.
        out: ``(N, h, w, C)`` to write to, of the type of ``features``; it must share
            no memory with the inputs. ``None`` allocates it.
        threads: number of threads that share the rows, 1 to 256. The result is the same
            to the bit for any number.

    Returns:
        ``(N, h, w, C)``, features for the current frame: ``out`` if given.

    Raises:
        ShapeError: if an array has another shape or dtype, is not contiguous, or
            ``out`` overlaps an input.
        ConfigError: if ``threads`` is out of range.

    Example:
        >>> features = np.arange(4, dtype=np.float32).reshape(1, 1, 4, 1)
        >>> one_cell_right = np.zeros((1, 1, 4, 2), np.float32)
        >>> one_cell_right[..., 0] = 1
        >>> warp_features(features, one_cell_right).ravel().tolist()
        [1.0, 2.0, 3.0, 0.0]
    """
    dtype = np.float32 if levels is None else np.uint8
    check_array("features", features, dtype, ("N", "h", "w", "C"))
    n, h, w, channels = features.shape
    check_array("flow", flow, np.float32, ("N", "h", "w", "2"))
    if flow.shape != (n, h, w, 2):
        raise ShapeError(
            f"flow has shape {flow.shape}, expected {(n, h, w, 2)} to match features "
            f"{features.shape}. If the flow was predicted at image size, resize it to the "
            "feature map and divide its values by the stride."
        )
    if scale is not None:
        check_array("scale", scale, dtype, ("N", "h", "w", "C"))
        if scale.shape != features.shape:
            raise ShapeError(
                f"scale has shape {scale.shape}, expected that of features {features.shape}. "
                "Leave scale out if the flow function has none."
            )
    threads = check_threads(threads)
    if out is None:
        out = np.empty_like(features, order="C")
    else:
        check_array("out", out, dtype, ("N", "h", "w", "C"))
        check_writeable("out", out)
        if out.shape != features.shape:
            raise ShapeError(
                f"out has shape {out.shape}, expected that of features {features.shape}. "
                "Omit out to have it allocated."
            )
        check_no_overlap("out", out, features=features, flow=flow, scale=scale)
    if levels is None:
        _native.warp(features, flow, scale, out, threads)
    else:
        zeros = (levels.features.zero, levels.scale.zero)
        _native.warp_bytes(features, flow, scale, out, *zeros, levels.scale.step, threads)
    return out
