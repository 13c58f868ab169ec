"""How much answers are alike, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from dff_edge.boxes import Detections
from dff_edge.deploy.agreement import agreement
from dff_edge.runtime.tasks import RUNTIME_TASKS

SEGMENTATION, DETECTION = (RUNTIME_TASKS.find(name) for name in ("segmentation", "detection"))
NOTHING = Detections(np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, np.int32))


def objects(*rows: tuple[float, ...]) -> Detections:
    """Detections of ``(x_min, y_min, x_max, y_max, score, label)``."""
    table = np.array(rows)
    return Detections(
        table[:, :4].astype(np.float32),
        table[:, 4].astype(np.float32),
        table[:, 5].astype(np.int32),
    )


def test_agreement_counts_pixels() -> None:
    one, other = np.uint8([[0, 1], [2, 3]]), np.uint8([[0, 1], [2, 0]])

    assert agreement(SEGMENTATION, [one, one], [one, other]) == 7 / 8


ONE = (0, 0, 10, 10, 0.8, 0)


@pytest.mark.parametrize(
    ("found", "expected", "alike"),
    [
        ([ONE], [ONE], 1.0),
        ([(0, 0, 10, 10, 0.6, 0)], [ONE], 2 * 0.6 / 1.4),  # less sure
        ([(0, 0, 10, 10, 0.8, 1)], [ONE], 0.0),  # another class
        ([(6, 0, 16, 10, 0.8, 0)], [ONE], 0.0),  # an IoU of 1/4
        ([(0, 0, 10, 5, 0.8, 0)], [ONE], 1.0),  # of exactly 1/2
        ([ONE, ONE], [ONE], 2 * 0.8 / 2.4),  # found twice, counts once
        ([ONE, (50, 50, 60, 60, 0.2, 0)], [ONE], 2 * 0.8 / 1.8),  # one too many
    ],
)
def test_agreement_of_detections_by_hand(
    found: list[tuple[float, ...]], expected: list[tuple[float, ...]], alike: float
) -> None:
    pair = objects(*found), objects(*expected)
    assert agreement(DETECTION, [pair[0]], [pair[1]]) == pytest.approx(alike)
    assert agreement(DETECTION, [pair[1]], [pair[0]]) == pytest.approx(alike)


def test_frames_with_nothing_in_them_agree_and_weigh_nothing() -> None:
    assert agreement(DETECTION, [NOTHING], [NOTHING]) == 1.0
    assert agreement(DETECTION, [NOTHING, objects(ONE)], [NOTHING, objects(ONE)]) == 1.0
    assert agreement(DETECTION, [NOTHING], [objects(ONE)]) == 0.0
