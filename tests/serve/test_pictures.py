"""The picture of a result, read back."""

import cv2
import numpy as np

from dff_edge.serve.pictures import draw_jpeg
from tests.serve.runs import CLASSES, COLOURS, result

ATOL = 6  # of 255: lossy coding


def read(jpeg):
    return cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)


def test_picture_is_half_frame_half_class_colour():
    picture = read(draw_jpeg(result(3, size=(48, 96)), CLASSES, COLOURS))
    assert picture.shape == (48, 96, 3)
    expected = (100 + np.array(COLOURS[0][::-1])) / 2
    np.testing.assert_allclose(picture[40, 48], expected, atol=ATOL)


def test_large_frame_is_drawn_smaller():
    assert read(draw_jpeg(result(0, size=(1080, 1920)), CLASSES, COLOURS)).shape == (540, 960, 3)
    assert read(draw_jpeg(result(0, size=(2000, 3)), CLASSES, COLOURS)).shape == (960, 1, 3)
