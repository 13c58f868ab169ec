"""Greedy non-maximum suppression, by the native kernel of ``plugins/detect``."""

from __future__ import annotations

from operator import index

import numpy as np
from numpy.typing import NDArray

from dff_edge import _native
from dff_edge.boxes import Boxes
from dff_edge.errors import ConfigError, ShapeError
from dff_edge.runtime.kernels.arrays import check_array


def nms(
    boxes: Boxes,
    scores: NDArray[np.float32],
    threshold: float,
    limit: int | None = None,
) -> NDArray[np.int64]:
    """Select the best of overlapping boxes.

    From the best to the worst, each box is kept unless its IoU with a kept one is above
    ``threshold``. A box with a NaN score is never kept; an empty box, or one of NaN, overlaps none.

    Args:
        boxes: float32 ``(n, 4)`` xyxy.
        scores: float32 ``(n,)``.
        threshold: IoU, 0..1.
        limit: maximum number of kept boxes; ``None`` for no limit.

    Returns:
        int64 ``(m,)``, indices of the kept boxes, by falling score; of equal scores the lower
        index first.

    Raises:
        ShapeError: another shape or dtype, or an array that is not contiguous.
        ConfigError: ``threshold`` is not within 0..1, or ``limit`` is negative.

    Example:
        >>> boxes = np.float32([[0, 0, 4, 4], [0, 0, 4, 3], [8, 8, 9, 9]])
        >>> nms(boxes, np.float32([0.9, 0.8, 0.7]), 0.5).tolist()
        [0, 2]
    """
    check_array("boxes", boxes, np.float32, ("n", "4"))
    check_array("scores", scores, np.float32, ("n",))
    if boxes.shape != (len(scores), 4):
        raise ShapeError(
            f"boxes has shape {boxes.shape}, expected ({len(scores)}, 4): x_min, y_min, x_max and "
            f"y_max of a box for each of {len(scores)} scores."
        )
    if not 0 <= threshold <= 1:  # negated: NaN is refused
        raise ConfigError(f"threshold is {threshold}, expected an IoU from 0 to 1.")
    most = len(boxes) if limit is None else index(limit)
    if most < 0:
        raise ConfigError(f"limit is {limit}, expected 0 or more. Leave it away for no limit.")
    kept = np.empty(min(most, len(boxes)), np.int64)
    return kept[: _native.nms(boxes, scores, threshold, kept)]
