"""Greedy matching of two sets of boxes of the same frame."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dff_edge.boxes import Detections, iou_matrix

LEAST_SCORE = 0.1  # below, what scores is no object and nothing to disagree about
SURE_SCORE = 0.5  # from this score on, a detection of fp32 must be matched
SAME_IOU = 0.5  # minimum IoU of a match


def detections_of(outputs: Mapping[str, NDArray[Any]]) -> Detections:
    """Return the detections in the outputs of a graph that ends with boxes.

    Args:
        outputs: ``boxes (1, n, 4)``, ``scores (1, n)`` and ``labels (1, n)``, of which the first
            ``count (1,)`` are valid.
    """
    count = int(outputs["count"][0])
    return Detections(
        outputs["boxes"][0, :count], outputs["scores"][0, :count], outputs["labels"][0, :count]
    )


def partners(
    expected: Detections, found: Detections, *, min_iou: float, max_score_error: float = 1.0
) -> NDArray[np.int64]:
    """Match each object with one of another set.

    By falling score, each is matched with the box of its class that overlaps it most and that is
    not matched yet.

    Args:
        expected: n detections.
        found: the detections to match with.
        min_iou: minimum IoU of a match.
        max_score_error: maximum difference of their scores.

    Returns:
        int64 ``(n,)``, index in ``found``; -1 where there is none.
    """
    overlaps = iou_matrix(expected.boxes, found.boxes)
    apart = np.abs(expected.scores[:, None] - found.scores[None, :])
    is_same_class = expected.labels[:, None] == found.labels[None, :]
    return match_greedily(
        overlaps, is_same_class & (overlaps >= min_iou) & (apart <= max_score_error)
    )


def match_greedily(
    overlaps: NDArray[np.float32], may_match: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Match each row with the column that overlaps it most, the first rows first.

    Args:
        overlaps: float ``(n, m)``, not negative.
        may_match: bool ``(n, m)``, which pairs are allowed.

    Returns:
        int64 ``(n,)``, index of the column; -1 where all allowed ones are matched already.

    Example:
        >>> overlaps = np.float32([[0.8, 0.9], [0.1, 0.7]])
        >>> match_greedily(overlaps, overlaps >= 0.5)
        array([ 1, -1])
    """
    left = np.where(may_match, overlaps, -1)
    taken = np.full(len(left), -1, np.int64)
    for row in np.flatnonzero(may_match.any(axis=1)):
        best = int(left[row].argmax())
        if left[row, best] >= 0:
            taken[row] = best
            left[:, best] = -1
    return taken
