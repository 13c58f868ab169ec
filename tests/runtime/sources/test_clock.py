"""Capture times of a network camera, against journeys that the test lays down."""

import pytest

from dff_edge.runtime.sources.clock import JUMP_S, WINDOW_S, CameraClock

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
