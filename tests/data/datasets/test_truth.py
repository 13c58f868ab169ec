"""Truths held against their frames: sizes, classes, borders."""

import numpy as np
import pytest

from dff_edge.boxes import TrueBoxes
from dff_edge.data.datasets.coco_json import CocoImage
from dff_edge.data.datasets.coco_video import CocoClip
from dff_edge.data.datasets.truth import fit_boxes, true_boxes, true_labels
from dff_edge.errors import SourceError
from tests.data.datasets.layouts import SIZE, picture, turn_by_exif, write


class Clip:
    name = "drive"

    def __init__(self, labels=None, boxes=None):
        self._labels, self._boxes = labels, boxes

    def where(self, index):
        return f"labels/{index}.png"

    def labels(self, index):
        return self._labels

    def boxes(self, index):
        return self._boxes


def boxes(*corners, ignored=(), size=None):
    flags = np.array([n in ignored for n in range(len(corners))], np.bool_)
    return TrueBoxes(
        np.array(corners, np.float32).reshape(-1, 4),
        np.arange(len(corners), dtype=np.int32),
        flags,
        size,
    )


# ---- label maps


def test_labels_of_classes_and_255_are_taken_as_they_are():
    labels = np.array([[0, 1, 255], [2, 2, 0]], np.uint8)

    assert true_labels(Clip(labels), 0, (2, 3), 3) is labels


@pytest.mark.parametrize("label", [3, 4, 254])
def test_a_label_of_no_class_is_refused_with_its_share(label):
    labels = np.array([[0, 1, 255], [label, 2, 0]], np.uint8)

    with pytest.raises(
        SourceError,
        match=rf"labels/4\.png: 16\.7% of the pixels have labels of no class, {label} the largest, "
        "expected 0 to 2, or 255",
    ):
        true_labels(Clip(labels), 4, (2, 3), 3)


def test_where_classes_are_unknown_any_label_counts():
    labels = np.array([[200]], np.uint8)

    assert true_labels(Clip(labels), 0, (1, 1), None) is labels


def test_labels_of_another_size_are_refused():
    with pytest.raises(SourceError, match="are of 3 x 2 pixels, and frame 1 .* 'drive' has 5 x 4"):
        true_labels(Clip(np.zeros((2, 3), np.uint8)), 1, (4, 5), 1)


def test_frames_without_truth_have_none():
    assert true_labels(Clip(), 0, (1, 1), 1) is None
    assert true_boxes(Clip(), 0, (1, 1), 1) is None


# ---- boxes


def test_boxes_are_clipped_at_the_border_and_counted():
    given = boxes(
        (-8, 2, 4, 6),  # past the left border
        (5, -3, 9, 20),  # past two
        (18, 2, 20.5, 6),  # by half a pixel: rounding
        (3, 3, 3, 8),  # no width
        (9, 8, 7, 9),  # less than none
        (20, 0, 30, 5),  # outside, along the border
        (-9, -9, -1, -1),  # outside
        (1, 1, 2, 2),
        ignored=(1,),
    )

    fitted = fit_boxes(given, (10, 20))

    assert fitted.boxes.boxes.tolist() == [
        [0, 2, 4, 6],
        [5, 0, 9, 10],
        [18, 2, 20, 6],
        [1, 1, 2, 2],
    ]
    assert fitted.boxes.labels.tolist() == [0, 1, 2, 7]
    assert fitted.boxes.ignored.tolist() == [False, True, False, False]
    assert (fitted.clipped, fitted.outside, fitted.flat) == (2, 2, 2)


def test_no_boxes_are_no_boxes():
    fitted = fit_boxes(boxes(), (10, 20))

    assert len(fitted.boxes) == fitted.clipped == fitted.outside == fitted.flat == 0


def test_annotations_of_another_size_are_refused():
    truth = boxes((0, 0, 1, 1), size=(20, 10))

    with pytest.raises(SourceError, match="10 x 20 pixels, and frame 0 .* 20 x 10.*are exchanged"):
        true_boxes(Clip(boxes=truth), 0, (10, 20), 1)


def test_a_class_that_the_model_has_not_is_refused():
    with pytest.raises(SourceError, match="a box is of class 1, expected 0 to 0"):
        true_boxes(Clip(boxes=boxes((0, 0, 1, 1), (0, 0, 2, 2))), 0, (4, 4), 1)


def test_a_picture_that_exif_shows_turned_is_named(tmp_path):
    write(tmp_path / "x.jpg", picture())
    turn_by_exif(tmp_path / "x.jpg")
    height, width = SIZE
    shown = boxes((0, 0, 1, 1), size=(width, height))
    clip = CocoClip("v", tmp_path, [CocoImage(1, "x.jpg", 0, None)], tmp_path / "v.json", [shown])

    with pytest.raises(SourceError, match=r"v\.json, x\.jpg: .* has an EXIF rotation, which"):
        true_boxes(clip, 0, SIZE, 1)
