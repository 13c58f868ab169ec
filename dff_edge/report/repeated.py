"""Repeated measurements: the median, and its confidence interval.

A program that starts in the middle of a measurement must slow down both sides of a comparison, or
neither: so ratios are taken within each repetition, and their median counts.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from math import comb
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Number = Annotated[float, Field(allow_inf_nan=False)]  # JSON has neither
_OUTSIDE = 0.05  # probability at each end that the true median is not in the range
_STEADY = 0.2  # of the median: with a wider range it is not reliable
ENOUGH = 5  # number of repetitions for a meaningful range


class Repeated(BaseModel):
    """The median of repetitions.

    Attributes:
        median: of all values.
        low, high: interval of the true median with at least 90% probability, whatever
            their distribution (David and Nagaraja, "Order Statistics", section 7.1): from the 2nd
            smallest to the 2nd largest of nine, from the smallest to the largest of five; of fewer
            too, with less probability.
        count: number of values.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    median: Number
    low: Number
    high: Number
    count: int

    @property
    def is_steady(self) -> bool:
        """Whether the range is narrow enough for the median to be reported."""
        return self.high - self.low <= _STEADY * self.median

    def __str__(self) -> str:
        return f"{self.low:.2f} to {self.high:.2f}"


def repeated(values: Sequence[float]) -> Repeated:
    """Return the median of values, one per repetition, with its range.

    Example:
        >>> repeated([3.0, 1.0, 2.0])
        Repeated(median=2.0, low=1.0, high=3.0, count=3)
    """
    ordered = sorted(values)
    count = len(ordered)
    left_out, outside = 0, 1 / 2**count
    while outside + comb(count, left_out + 1) / 2**count <= _OUTSIDE:
        left_out += 1
        outside += comb(count, left_out) / 2**count
    return Repeated(
        median=statistics.median(ordered),
        low=ordered[left_out],
        high=ordered[-1 - left_out],
        count=count,
    )


def paired_ratio(numerators: Sequence[float], denominators: Sequence[float]) -> Repeated:
    """Return the median of the ratios of two things that were measured side by side.

    Args:
        numerators: one per repetition.
        denominators: of the same repetitions, in the same order.
    """
    return repeated([n / d for n, d in zip(numerators, denominators, strict=True)])
