"""Results as pictures, of both tasks and at both sizes."""

import numpy as np
import pytest

from dff_edge.boxes import Detections
from dff_edge.frames import Frame, Result
from dff_edge.runtime.drawing.boxes import draw_boxes
from dff_edge.runtime.drawing.overlay import draw_overlay
from dff_edge.runtime.drawing.style import Style
from dff_edge.runtime.tasks.drawing import caption_of, draw_result

COLOURS = [(255, 0, 0), (0, 255, 10)]
NAMES = ["vehicle", "pole"]


def frame():
    return Frame(np.full((120, 240, 3), 90, np.uint8), 4, 0.0)


def test_a_label_map_has_a_caption_and_a_legend():
    labels = np.zeros((120, 240), np.uint8)
    labels[:, 120:] = 1
    picture = draw_result(Result(frame(), labels, 4, 0.0, {}), NAMES, COLOURS)
    expected = draw_overlay(
        frame().image, labels, COLOURS, caption="frame 4, key frame", legend=NAMES
    )
    np.testing.assert_array_equal(picture, expected)


def detections(boxes):
    return Detections(np.float32(boxes), np.float32([0.9, 0.4]), np.int32([1, 0]))


def test_boxes_that_are_sure_enough_are_drawn_at_the_size_that_is_shown():
    found = detections([[20, 40, 200, 100], [0, 0, 50, 50]])
    result = Result(frame(), None, 1, 0.0, {}, detections=found, task="detection")

    small = draw_result(result, NAMES, COLOURS, max_side_px=120)
    all_of_them = draw_result(result, NAMES, COLOURS, Style(min_score=0.4))

    image = np.full((60, 120, 3), 90, np.uint8)
    halved = detections([[10, 20, 100, 50], [0, 0, 25, 25]]).above(0.5)
    expected = draw_boxes(image, halved, COLOURS, NAMES, caption="frame 4, features 3 frames old")
    np.testing.assert_array_equal(small, expected)
    expected = draw_boxes(
        frame().image, found, COLOURS, NAMES, caption="frame 4, features 3 frames old"
    )
    np.testing.assert_array_equal(all_of_them, expected)


def test_classes_that_are_not_shown_leave_the_picture_and_the_legend():
    labels = np.zeros((240, 320), np.uint8)
    labels[:, 160:] = 1
    image = np.full((240, 320, 3), 90, np.uint8)
    plain = Result(Frame(image, 4, 0.0), labels, 4, 0.0, {})
    style = Style(shown=frozenset([1]), opacity=0.25)

    picture = draw_result(plain, NAMES, COLOURS, style)

    np.testing.assert_array_equal(picture[100, 20], [90, 90, 90])
    blended = 0.75 * 90 + 0.25 * np.array(COLOURS[1][::-1])
    np.testing.assert_allclose(picture[100, 200], blended, atol=0.51)
    corner = picture[180:, :80].reshape(-1, 3).tolist()
    assert list(COLOURS[1][::-1]) in corner
    assert list(COLOURS[0][::-1]) not in corner


def test_boxes_of_classes_that_are_not_shown_are_left_out():
    found = detections([[20, 40, 200, 100], [0, 0, 50, 50]])  # of class 1 and 0
    result = Result(frame(), None, 4, 0.0, {}, detections=found, task="detection")
    style = Style(min_score=0.1, shown=frozenset([0]))

    picture = draw_result(result, NAMES, COLOURS, style)

    assert (picture == COLOURS[0][::-1]).all(axis=2).any()
    assert not (picture == COLOURS[1][::-1]).all(axis=2).any()


@pytest.mark.parametrize(
    ("index", "key", "caption"),
    [
        (12, 12, "frame 12, key frame"),
        (13, 12, "frame 13, features 1 frame old"),
        (21, 12, "frame 21, features 9 frames old"),
    ],
)
def test_caption_says_how_old_the_features_are(index, key, caption):
    result = Result(Frame(np.zeros((2, 2, 3), np.uint8), index, 0.0), None, key, 0.0, {})
    assert caption_of(result) == caption
