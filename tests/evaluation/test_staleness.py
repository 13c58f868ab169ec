"""Quality of expected disagreement, against numbers done by hand and another formula."""

from __future__ import annotations

import numpy as np
import pytest

from dff_edge.evaluation.staleness import rank_correlation, staleness_quality, within_distance


def test_rank_correlation_without_ties_is_one_minus_six_d_squared():
    rng = np.random.default_rng(3)
    first, second = rng.permutation(20), rng.permutation(20)
    expected = 1 - 6 * ((first - second) ** 2).sum() / (20 * (20**2 - 1))

    assert rank_correlation(np.exp(first / 3.0), second.astype(float)) == pytest.approx(expected)


def test_equal_numbers_share_their_mean_rank():
    # Ranks 1 2.5 2.5 4 and 1 2 3.5 3.5, about their means: -1.5 0 0 1.5 and -1.5 -0.5 1 1.
    found = rank_correlation(np.array([0.0, 1, 1, 2]), np.array([0.0, 1, 5, 5]))
    assert found == pytest.approx((2.25 + 1.5) / np.sqrt(4.5 * 4.5))


def test_nothing_is_ranked_by_a_constant():
    assert rank_correlation(np.ones(4), np.arange(4.0)) == 0


def test_correlation_within_distances_is_weighted_by_pairs_and_leaves_small_ones_out():
    distances = np.array([1] * 5 + [2] * 10 + [3] * 4)
    rising, falling = np.arange(5.0), -np.arange(10.0)
    found = np.concatenate([np.arange(5.0), np.arange(10.0), np.arange(4.0)])
    expected = np.concatenate([rising, falling, -np.arange(4.0)])

    assert within_distance(distances, expected, found) == pytest.approx((5 - 10) / 15)
    assert within_distance(distances[15:], expected[15:], found[15:]) == 0


def test_bins_hold_as_many_pairs_each_by_rising_prediction():
    expected = np.linspace(0, 0.95, 20)[::-1]
    found = expected / 2
    quality = staleness_quality(np.arange(20)[::-1], expected, found)

    assert [own.pairs for own in quality.calibration] == [2] * 10
    assert quality.calibration[0].expected == pytest.approx(0.025)
    assert [own.found for own in quality.calibration] == pytest.approx(
        [own.expected / 2 for own in quality.calibration], abs=1e-4
    )
    assert (quality.rank_correlation, quality.distance_alone) == (1, 1)
    assert quality.within_distance == 0


def test_what_two_models_predict_is_ranked_for_each_by_itself():
    expected = np.array([0.1, 0.2, 0.3, 0.7, 0.8, 0.9])
    found = np.array([0.5, 0.6, 0.7, 0.1, 0.2, 0.3])
    distances, folds = np.array([1, 2, 3, 3, 2, 1]), np.array([0, 0, 0, 1, 1, 1])

    assert staleness_quality(distances, expected, found).rank_correlation < 0
    quality = staleness_quality(distances, expected, found, folds)
    assert (quality.rank_correlation, quality.distance_alone) == (1, 0)
    uneven = staleness_quality(distances, expected, found, np.array([0, 0, 0, 0, 1, 1]))
    first = rank_correlation(expected[:4], found[:4])
    assert uneven.rank_correlation == pytest.approx((4 * first + 2) / 6, abs=1e-4)
