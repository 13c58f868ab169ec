"""How well expected disagreement tells of the disagreement that is found."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from dff_edge.bundle.staleness import CALIBRATION_BINS, CalibrationBin, StalenessQuality

_LEAST_PAIRS = 5  # at a distance, for a rank correlation of its own


def rank_correlation(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Return Spearman's rank correlation of two rows of numbers, -1..1; 0 where one is constant.

    Equal numbers share the mean of their ranks.

    Example:
        >>> rank_correlation(np.array([1.0, 5.0, 9.0]), np.array([0.1, 0.3, 0.2]))
        0.5
    """
    ranks = np.stack([_ranks(first), _ranks(second)])
    ranks -= ranks.mean(axis=1, keepdims=True)
    spread = float(np.sqrt((ranks[0] @ ranks[0]) * (ranks[1] @ ranks[1])))
    return float(ranks[0] @ ranks[1]) / spread if spread else 0.0


def within_distance(
    distances: NDArray[np.int64], expected: NDArray[np.float64], found: NDArray[np.float64]
) -> float:
    """Return the mean rank correlation of the pairs at each distance, weighted by their number.

    Distances of fewer than 5 pairs are left out; 0 where all are.
    """
    total = pairs = 0.0
    for distance in np.unique(distances):
        own = distances == distance
        if own.sum() >= _LEAST_PAIRS:
            total += rank_correlation(expected[own], found[own]) * own.sum()
            pairs += own.sum()
    return total / pairs if pairs else 0.0


def staleness_quality(
    distances: NDArray[np.int64],
    expected: NDArray[np.float64],
    found: NDArray[np.float64],
    folds: NDArray[np.int64] | None = None,
) -> StalenessQuality:
    """Compare expected with found disagreement.

    Args:
        distances: frames between the two frames of each pair, ``(n,)``.
        expected: disagreement as predicted, 0..1, ``(n,)``.
        found: the true one, the same.
        folds: which of several models made the prediction, ``(n,)``: what they predict is ranked
            by itself, and the correlations are the means, weighted by pairs.
    """
    by_fold = [np.ones(len(found), np.bool_)]
    if folds is not None:
        by_fold = [folds == fold for fold in np.unique(folds)]

    def mean(correlation: Callable[[NDArray[np.bool_]], float]) -> float:
        weighted = sum(correlation(own) * float(own.sum()) for own in by_fold)
        return round(weighted / len(found), 4)

    order = np.argsort(expected, kind="stable")
    bins = [part for part in np.array_split(order, CALIBRATION_BINS) if len(part)]
    return StalenessQuality(
        rank_correlation=mean(lambda own: rank_correlation(expected[own], found[own])),
        distance_alone=mean(
            lambda own: rank_correlation(distances[own].astype(np.float64), found[own])
        ),
        within_distance=mean(
            lambda own: within_distance(distances[own], expected[own], found[own])
        ),
        calibration=tuple(
            CalibrationBin(
                expected=round(float(expected[part].mean()), 4),
                found=round(float(found[part].mean()), 4),
                pairs=len(part),
            )
            for part in bins
        ),
    )


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[places], np.float64)
