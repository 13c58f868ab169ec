"""The share of an answer that the full network gives otherwise, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from dff_edge.boxes import Detections
from dff_edge.runtime.tasks import RUNTIME_TASKS

HERE, THERE = (10, 10, 30, 30), (60, 60, 80, 80)


def found(*objects):
    """Detections of a place and a score each, of one class."""
    boxes = np.array([place for place, _ in objects], np.float32).reshape(-1, 4)
    scores = np.array([score for _, score in objects], np.float32)
    return Detections(boxes, scores, np.zeros(len(objects), np.int32))


@pytest.mark.parametrize(
    ("answer", "full", "expected"),
    [
        (found((HERE, 0.8)), found((HERE, 0.8)), 0.0),
        (found((HERE, 1.0)), found((THERE, 1.0)), 1.0),
        (found((HERE, 1.0), (THERE, 0.6)), found((HERE, 0.8), (THERE, 1.0)), 1 - 2 * 1.4 / 3.4),
        (found((HERE, 0.9), (THERE, 0.09)), found((HERE, 0.9)), 0.0),  # below 0.1 is no object
        (found((HERE, 0.5)), found(), 0.5 / 2),  # of one certain object in each answer
        (found((HERE, 0.09)), found((THERE, 0.09)), 0.0),  # an empty scene
        (found(), found(), 0.0),
    ],
)
def test_of_detections_it_is_the_score_that_is_not_shared(answer, full, expected):
    assert RUNTIME_TASKS.find("detection").disagreement(answer, full) == pytest.approx(expected)


def test_of_label_maps_it_is_the_share_of_pixels():
    answer = np.zeros((4, 5), np.uint8)
    full = answer.copy()
    full[0] = 1

    assert RUNTIME_TASKS.find("segmentation").disagreement(answer, full) == pytest.approx(5 / 20)
