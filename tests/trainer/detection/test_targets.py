"""Targets of anchors and proposals by hand."""

import pytest
import torch

from dff_edge.trainer.detection.targets import anchor_targets, box_targets, is_inside

FRAME = (100, 100)


def boxes(*rows):
    return torch.tensor(rows, dtype=torch.float32).view(-1, 4)


def labels(*numbers):
    return torch.tensor(numbers, dtype=torch.int64)


def in_order(anchors):
    return torch.arange(len(anchors))


# ---- anchors


def test_anchors_by_hand():
    true = boxes([0, 0, 10, 10], [50, 50, 90, 70])
    anchors = boxes(
        [0, 0, 10, 10],  # IoU 1 with the first
        [0, 0, 10, 8],  # 0.8
        [0, 0, 10, 5],  # 0.5: neither
        [0, 0, 2, 10],  # 0.2: background
        [50, 50, 90, 60],  # 0.5 with the second, the highest of all
        [50, 60, 90, 70],  # just as high
        [50, 50, 60, 70],  # 0.25
        [80, 0, 100, 20],  # touches nothing
        [-1, 0, 10, 10],  # reaches out of the frame
        [50, 50, 90, 101],
    )

    targets = anchor_targets(anchors, FRAME, true, labels(2, 0), in_order(anchors))

    assert targets.is_object.tolist() == [1, 1, -1, 0, 1, 1, 0, 0, -1, -1]
    assert targets.boxes[[0, 1]].tolist() == [[0, 0, 10, 10]] * 2
    assert targets.boxes[[4, 5]].tolist() == [[50, 50, 90, 70]] * 2
    assert targets.boxes[7].tolist() == anchors[7].tolist()


def test_box_that_no_anchor_touches_makes_none_an_object():
    anchors = boxes([0, 0, 10, 10], [20, 20, 30, 30])

    targets = anchor_targets(anchors, FRAME, boxes([80, 80, 90, 90]), labels(0), in_order(anchors))

    assert targets.is_object.tolist() == [0, 0]


def test_frame_without_boxes_is_all_background():
    anchors = boxes([0, 0, 10, 10], [-5, 0, 5, 10])

    targets = anchor_targets(anchors, FRAME, boxes(), labels(), in_order(anchors))

    assert targets.is_object.tolist() == [0, -1]


def test_anchors_in_an_ignored_region_do_not_count_as_background():
    true = boxes([0, 0, 50, 50], [0, 0, 10, 10])
    anchors = boxes(
        [0, 0, 10, 10],  # an object, in the region too
        [20, 20, 40, 40],  # within the region
        [40, 40, 60, 60],  # a quarter within
    )

    targets = anchor_targets(anchors, FRAME, true, labels(-1, 3), in_order(anchors))

    assert targets.is_object.tolist() == [1, -1, 0]


@pytest.mark.parametrize(
    ("objects", "background", "chosen"),
    [(200, 300, (128, 128)), (10, 300, (10, 246)), (200, 20, (128, 20))],
)
def test_256_anchors_are_chosen_half_of_them_objects_at_most(objects, background, chosen):
    anchors = boxes(*[[0, 0, 10, 10]] * objects, *[[50, 50, 60, 60]] * background)
    order = torch.randperm(len(anchors), generator=torch.Generator().manual_seed(7))

    targets = anchor_targets(anchors, FRAME, boxes([0, 0, 10, 10]), labels(0), order)

    is_object = targets.is_object
    assert ((is_object == 1).sum(), (is_object == 0).sum()) == chosen
    first = [n for n in order.tolist() if n < objects][: chosen[0]]
    assert set((is_object == 1).nonzero().flatten().tolist()) == set(first)


def test_inside_counts_exclusive_maxima():
    assert is_inside(
        boxes([0, 0, 64, 32], [0, 0, 65, 32], [0, 0, 64, 33], [0, -1, 9, 9]), (32, 64)
    ).tolist() == [True, False, False, False]


# ---- proposals


def test_boxes_by_hand():
    true = boxes([0, 0, 10, 10], [0, 0, 10, 20], [50, 50, 100, 100], [75, 75, 90, 90])
    candidates = boxes(
        [0, 0, 10, 5],  # IoU 0.5 with the first
        [0, 0, 10, 16],  # 0.625 with the first, 0.8 with the second
        [0, 0, 10, 4],  # 0.4
        [60, 60, 70, 70],  # within the ignored region
        [30, 50, 60, 60],  # a third within
        [75, 75, 90, 90],  # an object there
    )

    targets = box_targets(candidates, true, labels(1, 0, -1, 1))

    assert targets.classes.tolist() == [2, 1, 0, -1, 0, 2]
    assert targets.boxes[:2].tolist() == true[:2].tolist()
    assert torch.equal(targets.boxes[2:], candidates[2:])  # the last is its own true box


def test_without_true_boxes_all_is_background():
    assert box_targets(boxes([0, 0, 9, 9]), boxes(), labels()).classes.tolist() == [0]
