"""Non-maximum suppression by the native kernel, through its Python face."""

from __future__ import annotations

import numpy as np
import pytest

from dff_edge.boxes import iou_matrix
from dff_edge.errors import ConfigError, ShapeError
from dff_edge.runtime.kernels.nms import nms

NESTED = np.float32([[0, 0, 4, 4], [0, 0, 4, 2], [9, 9, 10, 10]])  # the first two share a half


def nms_by_definition(boxes, scores, threshold):
    overlaps = iou_matrix(boxes, boxes)
    kept = []
    for index in np.argsort(-scores, kind="stable"):
        if not any(overlaps[index, other] > threshold for other in kept):
            kept.append(index)
    return kept


@pytest.mark.parametrize(
    ("threshold", "limit", "kept"),
    [
        (0.5, None, [1, 0, 2]),  # what is not above the threshold stays
        (0.49, None, [1, 2]),
        (0.5, 2, [1, 0]),
        (0.5, 0, []),
        (0.49, 9, [1, 2]),
    ],
)
def test_by_hand(threshold, limit, kept):
    found = nms(NESTED, np.float32([0.6, 0.9, 0.1]), threshold, limit)

    assert found.dtype == np.int64
    assert found.tolist() == kept


@pytest.mark.parametrize("threshold", [0.0, 0.3, 1.0])
def test_matches_the_definition_also_where_scores_are_equal(threshold):
    rng = np.random.default_rng(0)
    low = rng.uniform(0, 30, (200, 2))
    boxes = np.hstack([low, low + rng.uniform(0, 20, (200, 2))]).astype(np.float32)
    scores = rng.integers(0, 9, 200).astype(np.float32)

    assert nms(boxes, scores, threshold).tolist() == nms_by_definition(boxes, scores, threshold)


def test_nan_score_never_stays():
    assert nms(NESTED, np.float32([np.nan, 0.2, 0.3]), 0.5).tolist() == [2, 1]


def test_no_boxes():
    assert nms(np.empty((0, 4), np.float32), np.empty(0, np.float32), 0.5).tolist() == []


def test_boxes_that_do_not_fit_the_scores_are_refused():
    with pytest.raises(ShapeError, match=r"\(3, 4\), expected \(2, 4\)"):
        nms(NESTED, np.float32([1, 2]), 0.5)


def test_float64_is_refused():
    with pytest.raises(ShapeError, match="float64"):
        nms(NESTED.astype(np.float64), np.float32([1, 2, 3]), 0.5)


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan")])
def test_threshold_out_of_range_is_refused(threshold):
    with pytest.raises(ConfigError, match="from 0 to 1"):
        nms(NESTED, np.float32([1, 2, 3]), threshold)


def test_negative_limit_is_refused():
    with pytest.raises(ConfigError, match="limit is -1"):
        nms(NESTED, np.float32([1, 2, 3]), 0.5, -1)
