"""A run with key frames in the background, summarised by hand and on a small bundle."""

from __future__ import annotations

import numpy as np
import pytest

from dff_edge.errors import ConfigError
from dff_edge.experiment.frontier.live import summarise
from dff_edge.frames import Frame, Result

IMAGE = np.zeros((4, 4, 3), np.uint8)


def answers(*pairs):
    """Results of frames by (number, key frame), of 2 ms each, 10 ms old per number."""
    return [
        Result(
            frame=Frame(IMAGE, index, index / 10, live=True),
            labels=None,
            key_index=key,
            latency_s=0.002 + 0.001 * (index == 0),
            stage_ms={},
            age_s=0.01 * index,
        )
        for index, key in pairs
    ]


def test_lag_is_the_age_of_features_when_they_are_first_used():
    # Frame 5 was lost; features of 2 were first used at 4, of 4 at 7, of 8 at 10.
    pairs = [(0, 0), (1, 0), (2, 0), (3, 0), (4, 2), (6, 2), (7, 4), (8, 4), (9, 4), (10, 8)]
    found = summarise(answers(*pairs), 11)

    assert found.lag == 2
    assert found.answer_ms == pytest.approx(2)
    assert found.answered_share == pytest.approx(9 / 10)
    assert found.age_p99_ms == pytest.approx(100, abs=1)


def test_a_camera_that_ends_too_early_is_refused():
    with pytest.raises(ConfigError, match=r"3 frames.*camera\.frames"):
        summarise(answers((0, 0), (1, 0), (2, 0)), 3)
