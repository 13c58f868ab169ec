"""Batches of pairs: stacking and joining."""

import numpy as np
import torch

from dff_edge.boxes import TrueBoxes
from dff_edge.trainer.data.pairs import (
    IGNORED_BOX,
    Pair,
    Truth,
    collate_groups,
    stack_pairs,
    unknown_flow,
)

SIZE = (16, 24)


def pair(number, truth):
    image = np.full((*SIZE, 3), number, np.uint8)
    image[0, 1, 2] = 200
    return Pair(image + 1, image, truth, number == 0, unknown_flow(SIZE))


def true_boxes(count, ignored=()):
    boxes = np.arange(4 * count, dtype=np.float32).reshape(count, 4)
    is_ignored = np.isin(np.arange(count), ignored)
    return TrueBoxes(boxes, np.arange(count, dtype=np.int32), is_ignored)


def test_groups_with_labels_are_joined_in_order():
    labels = [np.full(SIZE, n, np.uint8) for n in range(4)]
    pairs = [pair(n, Truth(labels[n])) for n in range(4)]

    batch = collate_groups([stack_pairs(pairs[:2]), stack_pairs(pairs[2:])])

    assert set(batch) == {"key", "current", "labels", "same", "flow_px"}
    assert batch["labels"][:, 0, 0].tolist() == [0, 1, 2, 3]
    assert batch["current"][:, 0, 5, 5].tolist() == [0, 1, 2, 3]
    assert batch["key"][:, 0, 5, 5].tolist() == [1, 2, 3, 4]
    assert batch["current"][3, :, 0, 1].tolist() == [3, 3, 200]  # channels, rows, columns
    assert batch["same"].tolist() == [True, False, False, False]
    assert tuple(batch["flow_px"].shape) == (4, 2, 2, 3)


def test_groups_with_boxes_are_joined_in_order():
    truths = [true_boxes(2), true_boxes(0), true_boxes(3, ignored=[1])]
    pairs = [pair(n, Truth(boxes=truth)) for n, truth in enumerate(truths)]

    batch = collate_groups([stack_pairs(pairs[:1]), stack_pairs(pairs[1:])])

    assert set(batch) == {"key", "current", "boxes", "box_labels", "same", "flow_px"}
    assert [tuple(boxes.shape) for boxes in batch["boxes"]] == [(2, 4), (0, 4), (3, 4)]
    assert [labels.tolist() for labels in batch["box_labels"]] == [[0, 1], [], [0, IGNORED_BOX, 2]]
    assert batch["boxes"][2].dtype == torch.float32
    assert batch["box_labels"][1].dtype == torch.int64
    assert batch["boxes"][2][1].tolist() == [4, 5, 6, 7]
