"""Plots of live runs: what is drawn lies where its numbers say."""

import cv2
import numpy as np

from dff_edge.report.live_plot import Aged, Bought, draw_ages, draw_agreement
from dff_edge.report.plot import LIGHT


def places(png, colour):
    """Height and width of the picture, rows and columns of the pixels of a line's colour."""
    picture = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    wanted = tuple(bytes.fromhex(LIGHT.lines[colour][1:]))
    return picture.shape[:2], np.nonzero((picture == wanted).all(axis=-1))


def test_older_answers_are_drawn_higher():
    young = [Aged(n / 10, 10.0) for n in range(100)]
    old = [Aged(n / 10, 200.0) for n in range(100)]

    drawn = draw_ages({"background": young, "in order": old})
    (height, _), (young_rows, _) = places(drawn, "int8")
    _, (old_rows, _) = places(drawn, "fp16")
    assert np.median(old_rows) < height / 3 < 2 * height / 3 < np.median(young_rows)


def test_what_costs_more_is_drawn_to_the_right():
    fixed = [Bought("l = 10", 2.0, 0.91), Bought("l = 5", 2.2, 0.95)]
    adaptive = [Bought("0.05", 9.0, 0.95), Bought("0.1", 8.8, 0.91)]

    drawn = draw_agreement({"fixed": fixed, "adaptive": adaptive})
    (_, width), (_, fixed_columns) = places(drawn, "int8")
    _, (_, adaptive_columns) = places(drawn, "fp16")
    assert np.median(fixed_columns) < width / 2 < np.median(adaptive_columns)
