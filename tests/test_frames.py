"""Which stamps of frames are taken."""

import math

import numpy as np
import pytest

from dff_edge.errors import FrameError
from dff_edge.frames import STAMP_AHEAD_S, check_stamp


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("stamp_s", [0, 99, 99.5, np.float32(3.5), np.int64(7), -2.0])
def test_number_of_the_past_is_taken_as_it_is(stamp_s, live):
    assert check_stamp(stamp_s, live=live, now_s=100.0) == float(stamp_s)


def test_recording_may_be_longer_than_this_machine_is_on():
    assert check_stamp(1e6, live=False, now_s=100.0) == 1e6


def test_live_stamp_may_be_a_little_ahead():
    assert check_stamp(100.0 + 0.9 * STAMP_AHEAD_S, live=True, now_s=100.0) > 100.0


@pytest.mark.parametrize("stamp_s", [100.0 + 1.1 * STAMP_AHEAD_S, 1.7e9])
def test_live_stamp_in_the_future_is_refused(stamp_s):
    with pytest.raises(FrameError, match=r"in the future; expected time\.monotonic\(\)"):
        check_stamp(stamp_s, live=True, now_s=100.0)


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("stamp_s", [math.nan, math.inf, -math.inf, 10**400, np.float64("nan")])
def test_stamp_that_is_not_finite_is_refused(stamp_s, live):
    with pytest.raises(FrameError, match=r"stamp is (nan|-?inf); expected .* finite"):
        check_stamp(stamp_s, live=live, now_s=100.0)


@pytest.mark.parametrize("stamp_s", [None, "12.5", [1.0], 1 + 0j])
def test_stamp_that_is_no_number_is_refused(stamp_s):
    with pytest.raises(FrameError, match="expected seconds, a number"):
        check_stamp(stamp_s, live=True, now_s=100.0)
