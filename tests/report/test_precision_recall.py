"""Curves of precision and recall: a line for each class that occurs, a mark at the threshold."""

import cv2
import numpy as np

from dff_edge.evaluation.box_accuracy import BoxTally
from dff_edge.evaluation.score_threshold import measure_boxes
from dff_edge.report.plot import LIGHT
from dff_edge.report.precision_recall import draw_precision_recall
from tests.evaluation.boxes import random_frames

BLUE, ORANGE, GREEN = (0x1F, 0x77, 0xB4), (0xFF, 0x7F, 0x0E), (0x2C, 0xA0, 0x2C)  # C0, C1, C2


def report(classes, threshold=0.5, seen=2):
    tally = BoxTally([f"class {index}" for index in range(classes)], 1)
    for truth, answer in random_frames(1, count=20, classes=seen):
        tally.add(0, truth, answer)
    return measure_boxes(tally.accuracy(), threshold)


def picture(boxes):
    data = np.frombuffer(draw_precision_recall(boxes), np.uint8)
    return cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1]


def count(picture, colour):
    return int((picture == np.uint8(colour)).all(axis=2).sum())


def test_each_class_that_occurs_has_a_line():
    drawn = picture(report(3))
    assert min(drawn.shape[:2]) > 500
    assert count(drawn, BLUE) > 100
    assert count(drawn, ORANGE) > 100
    assert count(drawn, GREEN) == 0  # no true box


def test_mark_is_where_the_threshold_is():
    boxes = report(1, seen=1)
    plain, marked = picture(report(1, threshold=1.0, seen=1)), picture(boxes)
    is_blue = (marked == np.uint8(BLUE)).all(axis=2) & ~(plain == np.uint8(BLUE)).all(axis=2)
    rows, columns = np.nonzero(is_blue[: int(0.86 * len(is_blue))])  # above the axis
    own = boxes.classes["class 0"]
    curve = (plain == np.uint8(BLUE)).all(axis=2)
    left, right = np.nonzero(curve.any(axis=0))[0][[0, -1]]  # the line spans what is recalled
    first, last = own.curve.recall[0], own.curve.recall[-1]
    expected = left + (own.recall - first) / (last - first) * (right - left)
    assert abs(columns.mean() - expected) < 12


def test_many_classes_are_grey_and_without_names():
    drawn = picture(report(12, seen=12))
    assert count(drawn, BLUE) == 0
    grey = tuple(int(LIGHT.muted[at : at + 2], 16) for at in (1, 3, 5))
    assert count(drawn, grey) > 100


def test_no_box_at_all_draws_axes():
    assert picture(measure_boxes(BoxTally(("a",), 1).accuracy(), 0.5)).shape[2] == 3
