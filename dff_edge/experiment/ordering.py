"""Comparison of two rows of a table with the noise of training.

The rule, for differences paired over seeds (both rows of a seed begin with the same weights and use
the same scenes): all seeds agree in the sign, and the mean is more than twice its standard error.
With three seeds that is a rule of thumb, not a test at a known level.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Literal, NamedTuple

from dff_edge.errors import ConfigError

Verdict = Literal["better", "worse", "within the noise", "one seed"]
_ERRORS = 2.0  # standard errors that a mean difference has to exceed


class Difference(NamedTuple):
    """Difference of two rows.

    Attributes:
        mean: mean over the seeds of first minus second.
        standard_error: of that mean; NaN for one seed.
        verdict: of the first row.
    """

    mean: float
    standard_error: float
    verdict: Verdict


def compare(first: Sequence[float], second: Sequence[float]) -> Difference:
    """Compare two rows, seed by seed.

    Args:
        first, second: accuracies in the same order of seeds.

    Raises:
        ConfigError: no seed, or not as many in both.

    Example:
        >>> compare([0.70, 0.72, 0.71], [0.60, 0.63, 0.61]).verdict
        'better'
    """
    if len(first) != len(second) or not first:
        raise ConfigError(
            f"{len(first)} and {len(second)} accuracies to compare, expected one for each seed in "
            "both."
        )
    differences = [a - b for a, b in zip(first, second, strict=True)]
    mean = statistics.fmean(differences)
    if len(differences) == 1:
        return Difference(mean, math.nan, "one seed")
    error = statistics.stdev(differences) / math.sqrt(len(differences))
    if abs(mean) > _ERRORS * error:
        if all(value > 0 for value in differences):
            return Difference(mean, error, "better")
        if all(value < 0 for value in differences):
            return Difference(mean, error, "worse")
    return Difference(mean, error, "within the noise")
