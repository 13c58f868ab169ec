"""Label maps of any size from score maps, in one pass of the native kernel.

The convention is ``bilinear_half_pixel_argmax`` of ``docs/design/networks.md``: scores
are interpolated at cell centres, the greatest one is the class. The kernel of
``plugins/decode`` never makes a score map of the output's size.

Shapes: K classes, h x w score map, H_out x W_out label map; channels-last.
"""

from __future__ import annotations

from operator import index

import numpy as np
from numpy.typing import NDArray

from dff_edge import _native
from dff_edge.errors import ShapeError
from dff_edge.frames import LabelMap
from dff_edge.runtime.kernels.arrays import (
    check_array,
    check_no_overlap,
    check_threads,
    check_writeable,
)

MAX_CLASSES = 256  # range of a uint8 label


def decode_labels(
    scores: NDArray[np.float32],
    size: tuple[int, int],
    *,
    out: LabelMap | None = None,
    confidence: NDArray[np.uint8] | None = None,
    threads: int = 1,
) -> LabelMap:
    """Upsample score maps bilinearly and take the best class of every pixel.

    Pixel ``(Y, X)`` lies at ``u = (X + 0.5) * w / W_out - 0.5``, clamped to
    ``[0, w - 1]``, and at ``v`` likewise: the convention of ``cv2.resize`` with
    ``INTER_LINEAR``. The lowest class wins a tie. A NaN score never wins; where
    all are NaN the label is 0. The call blocks, and releases the GIL while it
    computes.

    Args:
        scores: float32 ``(h, w, K)``, before or after softmax, K from 1 to 256.
        size: ``(H_out, W_out)`` of the label map, in pixels, each at least 1.
        out: uint8 ``(H_out, W_out)`` to write to. ``None`` allocates it.
        confidence: uint8 ``(H_out, W_out)`` to write to, too: 255 times the probability of each
            pixel's label, by the softmax of each cell's scores, interpolated as they are.
            ``None`` leaves it out. Needs scores before softmax.
        threads: how many threads share the rows, 1 to 256. The result is the same
            for any number.

    Returns:
        uint8 ``(H_out, W_out)``, class index per pixel: ``out`` if given.

    Raises:
        ShapeError: if ``scores``, ``out`` or ``confidence`` has another shape or dtype, is not
            contiguous, or ``size`` is not two positive integers.
        ConfigError: if ``threads`` is out of range.

    Example:
        >>> scores = np.float32([[[1, 0], [0, 1]]])  # two cells, each sure of its class
        >>> decode_labels(scores, (1, 6)).tolist()
        [[0, 0, 0, 1, 1, 1]]
    """
    check_array("scores", scores, np.float32, ("h", "w", "K"))
    h, w, classes = scores.shape
    if h < 1 or w < 1:
        raise ShapeError(
            f"scores has shape {scores.shape}, expected at least one cell (h, w >= 1). "
            "An empty score map has no label; skip the frame instead."
        )
    if not 1 <= classes <= MAX_CLASSES:
        raise ShapeError(
            f"scores has {classes} classes in shape {scores.shape}, expected 1 to {MAX_CLASSES}, "
            "which fit a uint8 label. Put the classes last: (h, w, K)."
        )
    size = _checked_size(size)
    threads = check_threads(threads)
    if out is None:
        out = np.empty(size, np.uint8)
    else:
        check_array("out", out, np.uint8, ("H_out", "W_out"))
        check_writeable("out", out)
        if out.shape != size:
            raise ShapeError(
                f"out has shape {out.shape}, expected {size}, the size. "
                "Omit out to have it allocated."
            )
        check_no_overlap("out", out, scores=scores)
    if confidence is not None:
        check_array("confidence", confidence, np.uint8, ("H_out", "W_out"))
        check_writeable("confidence", confidence)
        if confidence.shape != size:
            raise ShapeError(f"confidence has shape {confidence.shape}, expected {size}.")
        check_no_overlap("confidence", confidence, scores=scores, labels=out)
    _native.decode(scores, out, confidence, threads)
    return out


def _checked_size(size: tuple[int, int]) -> tuple[int, int]:
    try:
        out_height, out_width = (index(side) for side in size)
    except (TypeError, ValueError):
        out_height = out_width = 0
    if out_height < 1 or out_width < 1:
        raise ShapeError(
            f"size is {size!r}, expected (H_out, W_out), two integers of at least 1. "
            "For the size of a frame pass frame.image.shape[:2]."
        )
    return out_height, out_width
