"""Two sets of detections of the same frame: which objects of one are in the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dff_edge.boxes import Detections, iou_matrix

SURE_SCORE = 0.5  # from which on a detection of fp32 is to be found again
SAME_IOU = 0.5  # of the two


def detections_of(outputs: Mapping[str, NDArray[Any]]) -> Detections:
    """What the whole task graph of detection found, by its outputs."""
    count = int(outputs["count"][0])
    return Detections(
        outputs["boxes"][0, :count], outputs["scores"][0, :count], outputs["labels"][0, :count]
    )


def partners(
    expected: Detections, found: Detections, *, min_iou: float, max_score_error: float = 1.0
) -> NDArray[np.int64]:
    """Find each object again.

    From the most certain on, each takes the box of its class that overlaps it most and that no
    other has taken.

    Args:
        expected: n detections.
        found: what they are looked for in.
        min_iou: the least overlap of partners.
        max_score_error: how far their scores may be apart.

    Returns:
        int64 ``(n,)``, index in ``found``; -1 where there is none.
    """
    overlaps = iou_matrix(expected.boxes, found.boxes)
    overlaps[expected.labels[:, None] != found.labels[None, :]] = -1
    apart = np.abs(expected.scores[:, None] - found.scores[None, :])
    overlaps[~(apart <= max_score_error)] = -1  # negated: NaN is no partner
    taken = np.full(len(expected), -1, np.int64)
    for row in range(len(expected) if len(found) else 0):
        best = int(overlaps[row].argmax())
        if overlaps[row, best] >= min_iou:
            taken[row] = best
            overlaps[:, best] = -1
    return taken
