"""Results as pictures, of both tasks and at both sizes."""

import numpy as np

from dff_edge.runtime.box_overlay import draw_boxes
from dff_edge.runtime.boxes import Detections
from dff_edge.runtime.frames import Frame, Result
from dff_edge.runtime.overlay import draw_overlay
from dff_edge.runtime.sinks.drawing import draw_result

COLOURS = [(255, 0, 0), (0, 255, 10)]
NAMES = ["vehicle", "pole"]


def frame():
    return Frame(np.full((120, 240, 3), 90, np.uint8), 4, 0.0)


def test_a_label_map_has_a_caption_and_a_legend():
    labels = np.zeros((120, 240), np.uint8)
    labels[:, 120:] = 1
    picture = draw_result(Result(frame(), labels, 4, 0.0, {}), NAMES, COLOURS)
    expected = draw_overlay(frame().image, labels, COLOURS, caption="frame 4  key", legend=NAMES)
    np.testing.assert_array_equal(picture, expected)


def detections(boxes):
    return Detections(np.float32(boxes), np.float32([0.9, 0.4]), np.int32([1, 0]))


def test_boxes_that_are_sure_enough_are_drawn_at_the_size_that_is_shown():
    found = detections([[20, 40, 200, 100], [0, 0, 50, 50]])
    result = Result(frame(), None, 1, 0.0, {}, detections=found)

    small = draw_result(result, NAMES, COLOURS, max_side_px=120)
    all_of_them = draw_result(result, NAMES, COLOURS, min_score=0.4)

    image = np.full((60, 120, 3), 90, np.uint8)
    halved = detections([[10, 20, 100, 50], [0, 0, 25, 25]]).above(0.5)
    expected = draw_boxes(image, halved, COLOURS, NAMES, caption="frame 4  key -3")
    np.testing.assert_array_equal(small, expected)
    expected = draw_boxes(frame().image, found, COLOURS, NAMES, caption="frame 4  key -3")
    np.testing.assert_array_equal(all_of_them, expected)
