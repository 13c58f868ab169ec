"""Accuracy of any task: at a distance from the key frame, and as "DFF at l"."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
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
    """Accuracy at the distances 0..l-1, 0..1; the mean over the classes that occur.

    Attributes:
        metric: the measure.
        classes: names of the K classes.
        max_interval: the largest l.
        not_scored: share of the labels that are left out of scores, 0..1: pixels of label 255,
            or ignored boxes.
    """

    metric: ClassVar[Metric]
    classes: tuple[str, ...]
    max_interval: int
    not_scored: float

    @abstractmethod
    def class_scores(self, distances: range) -> NDArray[np.float64]:
        """Return each class's accuracy over all pairs at some distances; NaN where it is absent."""

    def at_distance(self, distance: int) -> float:
        """Return the accuracy of the pairs at one distance; NaN when nothing was scored."""
        if not 0 <= distance < self.max_interval:
            raise ConfigError(
                f"distance {distance} was not evaluated, expected 0 to {self.max_interval - 1}."
            )
        return mean_of_classes(self.class_scores(range(distance, distance + 1)))

    def at_interval(self, interval: int) -> float:
        """Return the accuracy of all pairs at distances 0..l-1 together, "DFF at l", or NaN."""
        return mean_of_classes(self._within(interval))

    def by_class(self, interval: int) -> dict[str, float | None]:
        """Return each class's accuracy over distances 0..l-1; None for a class that is absent."""
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
