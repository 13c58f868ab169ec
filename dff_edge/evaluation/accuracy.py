"""Accuracy of any task: at a distance from the key frame, and as "DFF at l"."""

from __future__ import annotations

from abc import ABC, abstractmethod
from copy import copy
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dff_edge.errors import ConfigError


class Metric(NamedTuple):
    """The measure of accuracy.

    Attributes:
        key: its name in fields.
        title: its name for people.
        of_class: its name for a single class, for people.
    """

    key: str
    title: str
    of_class: str


@dataclass(frozen=True)
class Accuracy(ABC):
    """Accuracy at the distances n..n+l-1, 0..1; the mean over the classes that occur.

    Attributes:
        metric: the measure.
        classes: names of the K classes.
        max_interval: the largest l.
        not_scored: share of the labels that are left out of scores, 0..1: pixels of label 255,
            or ignored boxes.
        lag: n, frames after which the features of a key frame are used; 0 in order.
    """

    metric: ClassVar[Metric]
    classes: tuple[str, ...]
    max_interval: int
    not_scored: float
    lag: int = field(default=0, kw_only=True)

    def after(self, lag: int) -> Accuracy:
        """Return the same numbers as those of features that are used after a lag."""
        moved = copy(self)  # tasks' subclasses have constructors of their own
        object.__setattr__(moved, "lag", lag)
        return moved

    @abstractmethod
    def class_scores(self, distances: range) -> NDArray[np.float64]:
        """Return the accuracy of each class over all pairs at some distances, from the lag on.

        NaN where a class does not occur.
        """

    def at_distance(self, distance: int) -> float:
        """Return the accuracy of the pairs at one distance; NaN when nothing was scored."""
        after = distance - self.lag
        if not 0 <= after < self.max_interval:
            most = self.lag + self.max_interval - 1
            raise ConfigError(
                f"distance {distance} was not evaluated, expected {self.lag} to {most}."
            )
        return mean_of_classes(self.class_scores(range(after, after + 1)))

    def at_interval(self, interval: int) -> float:
        """Accuracy of all pairs at distances n..n+l-1 together: "DFF at l"; NaN as above."""
        return mean_of_classes(self._within(interval))

    def by_class(self, interval: int) -> dict[str, float | None]:
        """Accuracy of each class over distances n..n+l-1; None for one that does not occur."""
        return {
            name: None if np.isnan(value) else float(value)
            for name, value in zip(self.classes, self._within(interval), strict=True)
        }

    def _within(self, interval: int) -> NDArray[np.float64]:
        if not 1 <= interval <= self.max_interval:
            raise ConfigError(
                f"interval {interval} was not evaluated, expected 1 to {self.max_interval}."
            )
        return self.class_scores(range(interval))


def mean_of_classes(scores: NDArray[np.float64]) -> float:
    """Return the mean over the classes that are not NaN; NaN when all are."""
    return float(np.nanmean(scores)) if np.isfinite(scores).any() else float("nan")
