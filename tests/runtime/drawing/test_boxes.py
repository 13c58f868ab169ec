"""Boxes over a frame: where their lines are, what is on top, and names that can be read."""

import numpy as np
import pytest

from dff_edge.boxes import Detections, TrueBoxes
from dff_edge.errors import ConfigError
from dff_edge.runtime.drawing.boxes import draw_boxes

COLOURS = [(255, 0, 0), (0, 255, 10), (250, 250, 200)]  # RGB
NAMES = ["vehicle", "pedestrian", "pole"]


def found(*rows):
    table = np.array(rows, np.float64).reshape(-1, 6)
    return Detections(
        table[:, :4].astype(np.float32),
        table[:, 4].astype(np.float32),
        table[:, 5].astype(np.int32),
    )


def bgr(label):
    return np.array(COLOURS[label][::-1], np.uint8)


def test_lines_are_on_the_pixels_within_the_box():
    image = np.full((120, 160, 3), 100, np.uint8)

    box = TrueBoxes(np.float32([[40, 50, 101, 91]]), np.int32([0]), np.array([True]))  # thin

    drawn = draw_boxes(image, box, COLOURS, NAMES)

    own = (drawn == bgr(0)).all(axis=2)
    assert own[50:91, [40, 100]].all()  # maxima are exclusive
    assert own[[50, 90], 40:101].all()
    assert not own[60:80, [39, 41, 99, 101]].any()
    np.testing.assert_array_equal(drawn[60:80, 50:90], image[60:80, 50:90])  # not filled
    np.testing.assert_array_equal(drawn[95:], image[95:])
    assert (image == 100).all()


def test_the_name_stands_above_the_box_and_can_be_read():
    image = np.full((120, 160, 3), 100, np.uint8)

    for label, ink in ((0, 255), (2, 0)):  # white on dark, black on bright
        drawn = draw_boxes(image, found((40, 50, 101, 91, 0.9, label)), COLOURS, NAMES)
        above = drawn[:50]
        assert (above == bgr(label)).all(axis=2).sum() > 100
        assert (above == ink).all(axis=2).any()


def test_a_name_at_the_top_and_the_right_stays_in_the_picture():
    image = np.full((120, 160, 3), 100, np.uint8)

    drawn = draw_boxes(image, found((150, 0, 160, 60, 0.9, 1)), COLOURS, NAMES)

    names = (drawn[:16] == bgr(1)).all(axis=2)
    assert names[:, 70:150].sum() > 100  # moved to the left, over the box's top


def test_the_surest_is_on_top():
    image = np.full((120, 160, 3), 100, np.uint8)
    box = (40, 50, 101, 91)

    drawn = draw_boxes(image, found((*box, 0.9, 0), (*box, 0.3, 1)), COLOURS, NAMES)

    np.testing.assert_array_equal(drawn[70, 40], bgr(0))


@pytest.mark.parametrize("size", [(1, 1), (9, 9), (16, 30)], ids=str)
def test_small_pictures_have_boxes_without_names(size):
    image = np.full((*size, 3), 100, np.uint8)

    drawn = draw_boxes(image, found((0, 0, 9, 9, 0.9, 0)), COLOURS, NAMES)

    assert set(map(tuple, drawn.reshape(-1, 3).tolist())) <= {tuple(bgr(0)), (100, 100, 100)}
    np.testing.assert_array_equal(drawn[0, 0], bgr(0))


def test_ignored_objects_are_thin():
    image = np.full((120, 160, 3), 100, np.uint8)
    boxes = np.float32([[40, 50, 101, 91]])

    drawn = [
        draw_boxes(image, TrueBoxes(boxes, np.int32([0]), np.array([ignored])), COLOURS, NAMES)
        for ignored in (False, True)
    ]

    thick, thin = ((picture[60:80] == bgr(0)).all(axis=2).sum(axis=1).max() for picture in drawn)
    assert thin == 2 < thick  # a pixel on each side


def test_a_class_without_a_name_is_refused():
    image = np.zeros((120, 160, 3), np.uint8)
    with pytest.raises(ConfigError, match=r"classes \[3\], expected 0 to 2"):
        draw_boxes(image, found((0, 0, 9, 9, 0.9, 3)), COLOURS, NAMES)


def test_caption_covers_no_name():
    image = np.full((240, 320, 3), 100, np.uint8)
    boxes = found((0, 0, 30, 60, 0.9, 0))

    plain = draw_boxes(image, boxes, COLOURS, NAMES)
    captioned = draw_boxes(image, boxes, COLOURS, NAMES, caption="frame 12, key frame")

    def name_rows(picture):
        return np.nonzero((picture == bgr(0)).all(axis=2).sum(axis=1) > 40)[0]

    assert name_rows(plain).min() == 0
    assert name_rows(captioned).min() >= 15
    assert len(name_rows(captioned)) >= len(name_rows(plain)) - 2
