"""Medians of repetitions, their range, and ratios in pairs."""

from __future__ import annotations

import numpy as np
import pytest

from dff_edge.report.repeated import paired_ratio, repeated


@pytest.mark.parametrize(
    ("count", "left_out"), [(1, 0), (2, 0), (5, 0), (7, 0), (8, 1), (9, 1), (11, 2), (20, 5)]
)
def test_range_leaves_out_as_many_at_each_end_as_the_sign_test(count: int, left_out: int) -> None:
    """Of 9: the 2nd to the 8th; tables of the sign test at 5% on each side."""
    found = repeated([float(value) for value in range(count)][::-1])

    assert (found.low, found.high) == (left_out, count - 1 - left_out)
    assert found.median == (count - 1) / 2
    assert found.count == count


@pytest.mark.parametrize("count", [5, 9, 15])
def test_range_holds_the_true_median_as_often_as_it_says(count: int) -> None:
    rng = np.random.default_rng(0)
    draws = rng.exponential(size=(4000, count))  # skewed as delays are
    found = [repeated(list(row)) for row in draws]

    share = np.mean([each.low <= np.log(2) <= each.high for each in found])
    assert share >= 0.9 - 3 * np.sqrt(0.9 * 0.1 / 4000)


def test_a_load_that_slows_both_sides_of_a_repetition_leaves_the_ratio() -> None:
    load = np.array([1.0, 3.0, 1.1, 8.0, 2.0])
    found = paired_ratio(list(0.8 * load), list(0.1 * load))

    assert found.median == pytest.approx(8)
    assert (found.low, found.high) == pytest.approx((8, 8))
    assert found.is_steady


def test_one_repetition_that_was_disturbed_does_not_count() -> None:
    seconds = [0.8] * 9
    disturbed = [0.8] * 8 + [4.0]
    found = paired_ratio(disturbed, [value / 8 for value in seconds])

    assert found.median == pytest.approx(8)
    assert found.is_steady


def test_repetitions_that_differ_are_not_steady() -> None:
    found = repeated([7.0, 7.5, 8.0, 15.0, 19.1])

    assert not found.is_steady
    assert str(found) == "7.00 to 19.10"
