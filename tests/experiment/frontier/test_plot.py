"""The picture of the frontier shows each curve and each point."""

from __future__ import annotations

import cv2
import numpy as np

from dff_edge.experiment.frontier.plot import draw_frontier
from tests.experiment.frontier.test_results import ROWS, results


def ink(rows):
    picture = cv2.imdecode(np.frombuffer(draw_frontier(results(rows)), np.uint8), cv2.IMREAD_COLOR)
    return picture.shape, int((picture < 200).any(axis=2).sum())


def test_each_row_leaves_ink():
    shape, whole = ink(ROWS)

    for left_out in (ROWS[3], ROWS[4], ROWS[5], ROWS[7]):
        other, less = ink(tuple(row for row in ROWS if row is not left_out))
        assert other == shape
        assert less != whole, left_out.curve
