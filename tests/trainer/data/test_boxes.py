"""Boxes that move with their frame."""

import numpy as np

from dff_edge.boxes import TrueBoxes
from dff_edge.trainer.data.boxes import clip_boxes, map_boxes


def true_boxes(*boxes, ignored=()):
    count = len(boxes)
    return TrueBoxes(
        np.array(boxes, np.float32).reshape(count, 4),
        np.arange(count, dtype=np.int32),
        np.isin(np.arange(count), ignored),
    )


def test_mirrored_and_doubled():
    boxes = map_boxes(true_boxes([1, 2, 4, 3]), np.array([[-2.0, 0, 20], [0, 2, 0]]))

    assert boxes.boxes.tolist() == [[12, 4, 18, 6]]


def test_turned_by_a_right_angle():
    """(x, y) becomes (-y, x)."""
    boxes = map_boxes(true_boxes([1, 2, 5, 4]), np.array([[0.0, -1, 10], [1, 0, 0]]))

    assert boxes.boxes.tolist() == [[6, 1, 8, 5]]


def test_cut_at_the_border():
    cut = clip_boxes(
        true_boxes(
            [-4, 2, 12, 12],  # three quarters left
            [-16, 2, 4, 12],  # a fifth left
            [20, 2, 30, 12],  # outside
            [4, 4, 14, 7],  # 3 px high
            [4, 4, 8, 8],
            [2, 2, 10, 10],
            ignored=[5],
        ),
        (16, 20),
    )

    assert cut.boxes.tolist() == [
        [0, 2, 12, 12],
        [0, 2, 4, 12],
        [4, 4, 14, 7],
        [4, 4, 8, 8],
        [2, 2, 10, 10],
    ]
    assert cut.labels.tolist() == [0, 1, 3, 4, 5]
    assert cut.ignored.tolist() == [False, True, True, False, True]


def test_no_boxes():
    assert len(clip_boxes(map_boxes(true_boxes(), np.eye(2, 3)), (16, 20))) == 0
