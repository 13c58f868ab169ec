"""Which detections are in another set too, by hand."""

from __future__ import annotations

import numpy as np

from dff_edge.boxes import Detections
from dff_edge.detection_matching import detections_of, partners

BOXES = np.float32([[0, 0, 10, 10], [0, 0, 10, 8], [50, 50, 60, 60]])


def detections(rows, scores, labels):
    return Detections(BOXES[rows], np.float32(scores), np.int32(labels))


def test_each_takes_the_box_that_overlaps_it_most():
    expected = detections([0, 1, 2], [0.9, 0.8, 0.7], [0, 0, 0])
    found = detections([2, 1, 0], [0.9, 0.8, 0.7], [0, 0, 0])

    assert partners(expected, found, min_iou=0.5).tolist() == [2, 1, 0]


def test_none_is_taken_twice():
    expected = detections([0, 1], [0.9, 0.8], [0, 0])
    found = detections([1], [0.9], [0])

    assert partners(expected, found, min_iou=0.5).tolist() == [0, -1]


def test_another_class_is_no_partner():
    expected, found = detections([0], [0.9], [0]), detections([0], [0.9], [1])

    assert partners(expected, found, min_iou=0.5).tolist() == [-1]


def test_overlap_and_score_have_limits():
    expected, found = detections([0], [0.9], [0]), detections([1], [0.7], [0])  # IoU 0.8

    assert partners(expected, found, min_iou=0.8).tolist() == [0]
    assert partners(expected, found, min_iou=0.81).tolist() == [-1]
    assert partners(expected, found, min_iou=0.8, max_score_error=0.1).tolist() == [-1]


def test_nothing_on_either_side():
    none, some = detections([], [], []), detections([0], [0.9], [0])

    assert partners(none, some, min_iou=0.5).tolist() == []
    assert partners(some, none, min_iou=0.5).tolist() == [-1]


def test_rows_behind_the_count_are_no_detections():
    outputs = {"boxes": BOXES[None], "scores": np.float32([[0.9, 0.8, 0]])}
    outputs |= {"labels": np.int32([[1, 0, 0]]), "count": np.int32([2])}

    assert detections_of(outputs).labels.tolist() == [1, 0]
