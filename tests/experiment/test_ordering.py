"""The rule for "better than the noise", by numbers done by hand."""

from __future__ import annotations

import math

import pytest

from dff_edge.errors import ConfigError
from dff_edge.experiment.ordering import compare


def test_better_where_all_seeds_agree_by_much():
    # Differences 0.02, 0.03, 0.04: mean 0.03, deviation 0.01, standard error 0.01 / sqrt(3).
    found = compare([0.72, 0.73, 0.74], [0.70, 0.70, 0.70])

    assert found.verdict == "better"
    assert found.mean == pytest.approx(0.03)
    assert found.standard_error == pytest.approx(0.01 / math.sqrt(3))


def test_worse_is_better_the_other_way_round():
    assert compare([0.70, 0.70, 0.70], [0.72, 0.73, 0.74]).verdict == "worse"


def test_seeds_are_paired():
    # The rows overlap widely, but within each seed the first leads by 0.01.
    assert compare([0.51, 0.61, 0.711], [0.50, 0.60, 0.70]).verdict == "better"


def test_one_seed_that_disagrees_is_noise():
    # Mean 0.0397, standard error 0.0199 (just above 2 of them), yet one difference is below zero.
    differences = [0.06, 0.06, 0.06, 0.06, -0.001]
    assert compare([0.5 + d for d in differences], [0.5] * 5).verdict == "within the noise"


def test_agreement_with_a_mean_below_two_standard_errors_is_noise():
    # Differences 0.01, 0.02, 0.10: mean 0.0433, deviation 0.0493, two standard errors 0.0570.
    assert compare([0.51, 0.52, 0.60], [0.5, 0.5, 0.5]).verdict == "within the noise"


def test_equal_rows_are_noise():
    assert compare([0.5, 0.6], [0.5, 0.6]).verdict == "within the noise"


def test_one_seed_says_nothing():
    found = compare([0.9], [0.1])

    assert found.verdict == "one seed"
    assert math.isnan(found.standard_error)


@pytest.mark.parametrize(("first", "second"), [([], []), ([0.5], [0.5, 0.6])])
def test_rows_of_other_seeds_are_refused(first, second):
    with pytest.raises(ConfigError, match=f"{len(first)} and {len(second)} accuracies"):
        compare(first, second)
