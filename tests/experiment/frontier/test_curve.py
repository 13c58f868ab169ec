"""Curves against a network on every frame, by numbers done by hand."""

from __future__ import annotations

import pytest

from dff_edge.experiment.frontier.curve import Point, front, points_ahead, speed_ratio

# At l = 10, 3 and 1: each step takes four times as long.
CURVE = [Point(32.0, 0.74), Point(8.0, 0.70), Point(2.0, 0.60)]


def test_ratio_between_two_points_is_over_the_logarithm_of_time():
    # 0.65 is half the way from 2 to 8 ms, which is 4 ms: a rival of 6 ms has 2/3 of its frames.
    assert speed_ratio(CURVE, Point(6.0, 0.65)) == pytest.approx(1.5)
    # 0.72 is half the way from 8 to 32 ms: 16 ms.
    assert speed_ratio(CURVE, Point(12.0, 0.72)) == pytest.approx(0.75)


def test_points_between_two_points_are_over_the_logarithm_of_time():
    assert points_ahead(CURVE, Point(4.0, 0.62)) == pytest.approx(0.03)
    assert points_ahead(CURVE, Point(16.0, 0.75)) == pytest.approx(-0.03)


def test_at_a_point_it_is_that_point():
    assert speed_ratio(CURVE, Point(8.0, 0.70)) == pytest.approx(1)
    assert points_ahead(CURVE, Point(8.0, 0.70)) == pytest.approx(0)


def test_a_less_accurate_rival_meets_the_fastest_point():
    assert speed_ratio(CURVE, Point(10.0, 0.3)) == pytest.approx(5)


def test_a_slower_rival_meets_the_most_accurate_point():
    assert points_ahead(CURVE, Point(100.0, 0.70)) == pytest.approx(0.04)


def test_where_the_curve_does_not_reach_there_is_no_number():
    assert speed_ratio(CURVE, Point(100.0, 0.7401)) is None
    assert points_ahead(CURVE, Point(1.9, 0.1)) is None


def test_points_that_another_one_beats_do_not_count():
    slow_and_worse, as_fast_and_worse = Point(9.0, 0.69), Point(8.0, 0.65)

    assert front([*CURVE, slow_and_worse, as_fast_and_worse]) == CURVE[::-1]
    assert points_ahead([*CURVE, slow_and_worse], Point(9.0, 0.70)) > 0
