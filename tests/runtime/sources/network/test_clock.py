"""Capture times of a network camera, against journeys that the test lays down."""

import math
import random

import pytest

from dff_edge.runtime.sources.network.clock import (
    HOLD_UP_S,
    JUMP_S,
    PROBATION_S,
    WINDOW_S,
    ArrivalClock,
    CameraClock,
    PartClock,
)
from dff_edge.runtime.sources.network.parts import Part

PERIOD_S = 0.04


def stamps(journeys, *, rate=1.0, first=0):
    """Stamps, and whether the clock went on, of pictures that took so long on their way."""
    clock = CameraClock()
    return [
        clock.stamp(5000 + rate * PERIOD_S * (first + i), 100 + PERIOD_S * (first + i) + journey)
        for i, journey in enumerate(journeys)
    ]


def errors(journeys, **options):
    taken = [100 + PERIOD_S * i for i in range(len(journeys))]
    return [s - t for (s, _), t in zip(stamps(journeys, **options), taken, strict=True)]


def test_picture_that_was_held_up_keeps_its_time():
    queue = [max(0.01, 2.0 - PERIOD_S * i) for i in range(60)]  # all come at the end of it
    held_up = [0.01] * 20 + queue

    assert errors(held_up) == pytest.approx([0.01] * 80)
    assert all(went_on for _, went_on in stamps(held_up))


def test_slow_first_pictures_do_not_spoil_the_later_ones():
    assert errors([0.5, 0.3] + [0.01] * 10)[2:] == pytest.approx([0.01] * 10)


def test_stamp_is_never_after_the_arrival():
    journeys = [0.3, 0.1, 0.02, 0.5, 0.05, 1.0]

    assert all(e <= j + 1e-9 for e, j in zip(errors(journeys), journeys, strict=True))


@pytest.mark.parametrize("rate", [0.99, 1.01])
def test_wrong_rate_of_the_camera_does_not_add_up(rate):
    count = round(60 / PERIOD_S)

    assert errors([0.01] * count, rate=rate) == pytest.approx([0.01] * count, abs=2 * WINDOW_S / 99)


def test_hold_up_that_stays_becomes_usual():
    late = errors([0.01] * 10 + [0.8] * round(3 * WINDOW_S / PERIOD_S))

    assert late[10] == pytest.approx(0.01)
    assert late[-1] == pytest.approx(0.8)


@pytest.mark.parametrize("jump_s", [-0.05, JUMP_S + 0.01, -3600.0, 3600.0])
def test_jump_is_told_and_begins_anew(jump_s):
    clock = CameraClock()
    clock.stamp(10.0, 100.0)

    assert clock.stamp(10.04 + jump_s, 100.04) == (pytest.approx(100.04), False)
    assert clock.stamp(10.08 + jump_s, 100.08) == (pytest.approx(100.08), True)


def test_camera_that_skips_time_while_we_waited_has_not_jumped():
    clock = CameraClock()
    clock.stamp(10.0, 100.0)

    assert clock.stamp(20.0, 110.0) == (pytest.approx(110.0), True)


def test_no_time_of_a_camera_gives_a_stamp_in_the_future():
    rng = random.Random(0)
    for _ in range(300):
        clock = CameraClock()
        for number in range(20):
            scale = 10.0 ** rng.randint(-3, 19)
            arrival_s = 100 + PERIOD_S * number
            stamp_s, _ = clock.stamp(rng.uniform(-scale, scale), arrival_s)
            assert stamp_s <= arrival_s


class Line:
    """A camera that takes a picture each period, and a way to us that takes a while for each."""

    transfer_s = 0.005

    def __init__(self):
        self.now_s = 100.0  # when the way is free again

    def arrivals(self, taken_s, held_until_s=0.0):
        """First and last bytes of a picture, which the way holds back until some moment."""
        first_s = max(taken_s, self.now_s, held_until_s)
        self.now_s = first_s + self.transfer_s
        return first_s, self.now_s


def ages_told_too_low(takings, held):
    """By how much, for each picture; ``held`` is when the way was closed, and opened again."""
    clock, line = ArrivalClock(), Line()
    errors = []
    for taken_s in takings:
        until_s = held[1] if held[0] <= taken_s < held[1] else 0.0
        errors.append(clock.stamp(*line.arrivals(taken_s, until_s)) - taken_s)
    return errors


def every(period_s, count=60):
    return [100 + period_s * number for number in range(count)]


@pytest.mark.parametrize("period_s", [1 / 60, 1 / 30, 0.1, 1.0])
def test_arrival_is_the_stamp_where_nothing_is_held_up(period_s):
    assert ages_told_too_low(every(period_s), (0, 0)) == pytest.approx([0.0] * 60)


def test_jitter_is_no_hold_up():
    rng = random.Random(2)
    takings = [taken_s + rng.uniform(0, 0.06) for taken_s in every(1 / 30)]

    assert ages_told_too_low(takings, (0, 0)) == pytest.approx([0.0] * 60, abs=0.03)


@pytest.mark.parametrize("hold_up_s", [0.3, 1.0, 3.0])
@pytest.mark.parametrize("period_s", [1 / 60, 1 / 30, 0.1])
def test_pictures_that_were_held_up_are_not_told_younger_than_they_are(period_s, hold_up_s):
    start_s = 100 + 20.5 * period_s
    takings = every(period_s, round(5 / period_s))
    errors = ages_told_too_low(takings, (start_s, start_s + hold_up_s))

    assert max(errors) <= 0.02  # of arrival: those of the burst's end come a little late
    assert min(errors) >= -hold_up_s
    assert errors[-1] == pytest.approx(0.0)  # it is over


def test_camera_that_drops_what_it_cannot_send_is_told_older_for_a_moment_only():
    takings = [taken_s for taken_s in every(1 / 30, 90) if not 101.0 < taken_s < 102.0]
    errors = ages_told_too_low(takings, (0, 0))
    late = [error for error in errors if error < -1e-6]

    assert len(late) == 1  # the first after the gap, which may have waited as long as that
    assert late[0] == pytest.approx(-1.0, abs=0.05)


def test_rate_that_becomes_lower_is_usual_soon():
    takings = every(1 / 30, 30) + [102 + 0.5 * number for number in range(20)]
    errors = ages_told_too_low(takings, (0, 0))

    assert errors[-8:] == pytest.approx([0.0] * 8)


def test_hold_up_that_never_clears_is_usual_in_the_end():
    clock, line = ArrivalClock(), Line()
    line.transfer_s = 1 / 30  # the way is busy all the time
    lateness = []
    for number in range(300):
        first_s, last_s = line.arrivals(100 + number / 30, 101.5 if number > 20 else 0.0)
        lateness.append(first_s - clock.stamp(first_s, last_s))

    assert lateness[25] > 0.5
    assert lateness[-1] == 0.0


def parts(times, arrivals):
    return [
        Part(b"", arrival_s, arrival_s + 0.002, time_s)
        for time_s, arrival_s in zip(times, arrivals, strict=True)
    ]


@pytest.mark.parametrize("offset_s", [0.0, 1.7e9, -50.0])
def test_times_of_the_camera_are_believed_when_they_have_gone_on_as_ours_did(offset_s):
    taken = every(PERIOD_S, 200)
    late = [taken_s + (0.6 if 100 <= i < 110 else 0.01) for i, taken_s in enumerate(taken)]
    clock = PartClock()
    stamps = [clock.stamp(part) for part in parts([t + offset_s for t in taken], late)]

    errors = [stamp_s - taken_s for (stamp_s, _), taken_s in zip(stamps, taken, strict=True)]
    assert late[100] - late[99] > HOLD_UP_S
    assert taken[100] - taken[0] > PROBATION_S
    assert errors == pytest.approx([0.01] * 200, abs=1e-5)
    assert all(follows for _, follows in stamps)


@pytest.mark.parametrize(
    "time_of",
    [
        lambda t: 0.0,
        lambda t: 1000 * t,
        lambda t: t / 60,
        lambda t: -t,
        lambda t: float(math.floor(t)),
        lambda t: 1e18 + t,
        lambda t: None,
    ],
    ids=["stands still", "milliseconds", "minutes", "backwards", "whole seconds", "huge", "none"],
)
def test_times_that_are_none_of_a_clock_change_nothing(time_of):
    taken = every(PERIOD_S, 200)
    clock = PartClock()
    stamps = [clock.stamp(part) for part in parts([time_of(t) for t in taken], taken)]

    assert [stamp_s for stamp_s, _ in stamps] == pytest.approx(taken)
    assert all(follows for _, follows in stamps)


def test_camera_that_was_believed_and_set_has_jumped_once():
    taken = every(PERIOD_S, 200)
    times = [t if i < 120 else t + 3600 for i, t in enumerate(taken)]
    clock = PartClock()
    stamps = [clock.stamp(part) for part in parts(times, taken)]

    assert [i for i, (_, follows) in enumerate(stamps) if not follows] == [120]
    assert [stamp_s for stamp_s, _ in stamps] == pytest.approx(taken)
