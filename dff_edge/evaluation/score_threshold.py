"""Precision and recall of boxes by their score, and the score from which to show them.

Boxes are matched once, with all their scores (``box_accuracy``): a box that scores less never takes
the partner of one that scores more, so those from a threshold on are matched as if they were alone.

Source: van Rijsbergen, "Information Retrieval", 1979, chapter 7, for F1, the harmonic mean of
    precision and recall.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dff_edge.errors import ConfigError
from dff_edge.evaluation.box_accuracy import BoxAccuracy, Matches
from dff_edge.runtime.drawing.style import SHOWN_SCORE

Floats = NDArray[np.float64]
CANDIDATES: Floats = np.arange(1, 100) / 100  # scores to choose from


@dataclass(frozen=True, slots=True)
class Curve:
    """Precision and recall of one class, by falling score: a point for each score that occurs.

    Attributes:
        scores: float32 ``(n,)``.
        precision: float64 ``(n,)``, share of the boxes of at least that score that are right.
        recall: float64 ``(n,)``, share of the true boxes that these find; NaN when there is none.
        truths: number of true boxes.
    """

    scores: NDArray[np.float32]
    precision: Floats
    recall: Floats
    truths: int


@dataclass(frozen=True, slots=True)
class Choice:
    """A threshold and its F1, the mean over the classes that occur."""

    score: float
    f1: float


def curve(matches: Matches, label: int) -> Curve:
    """Return the curve of one class.

    Args:
        matches: of all frames.
        label: index of the class.
    """
    is_own = matches.labels == label
    scores, right = matches.scores[is_own], matches.right[is_own]
    order = np.argsort(-scores, kind="stable")
    scores, right = scores[order], right[order]
    ends = np.flatnonzero(np.diff(scores, append=-np.inf))  # the last of equal scores
    found = np.cumsum(right)[ends]
    truths = int(matches.truths[label])
    recall = found / truths if truths else np.full(len(ends), np.nan)
    return Curve(scores[ends], found / (ends + 1), recall, truths)


def at_score(curve: Curve, score: float) -> tuple[float | None, float | None]:
    """Return precision and recall of the boxes that score at least so much.

    Precision is None where there is no such box, recall where there is no true one.
    """
    points = int(_at_least(curve.scores, np.array([score]))[0])
    if not points:
        return None, 0.0 if curve.truths else None
    precision, recall = float(curve.precision[points - 1]), float(curve.recall[points - 1])
    return precision, recall if curve.truths else None


def mean_f1(matches: Matches, scores: Floats) -> Floats:
    """Return F1 of the boxes that score at least so much, the mean over the classes that occur.

    ``2 TP / (2 TP + FP + FN)`` is twice the right ones by all shown and all true ones.

    Args:
        matches: of all frames.
        scores: float64 ``(n,)``.

    Returns:
        float64 ``(n,)``.

    Raises:
        ConfigError: there is no true box.
    """
    labels = np.flatnonzero(matches.truths)
    if not len(labels):
        raise ConfigError(
            "no frame that was scored has a true box, so there is no best threshold. Give data "
            "with objects of the classes."
        )
    of_class = []
    for label in labels:
        is_own = matches.labels == label
        shown = _at_least(matches.scores[is_own], scores)
        hits = _at_least(matches.scores[is_own & matches.right], scores)
        of_class.append(2 * hits / (shown + matches.truths[label]))
    return np.asarray(np.mean(of_class, axis=0), np.float64)


def choose_threshold(matches: Matches) -> Choice:
    """Return the threshold of the best mean F1; of several that are as good, the middle one.

    Raises:
        ConfigError: there is no true box.

    Example:
        >>> right = np.array([True, True, False])
        >>> found = Matches(np.float32([0.9, 0.6, 0.3]), np.int32([0, 0, 0]), right, np.array([2]))
        >>> choose_threshold(found)  # 0.31 to 0.6 show the two right ones
        Choice(score=0.45, f1=1.0)
    """
    means = mean_f1(matches, CANDIDATES)
    best = np.flatnonzero(means == means.max())
    chosen = int(best[(len(best) - 1) // 2])
    return Choice(float(CANDIDATES[chosen]), float(means[chosen]))


@dataclass(frozen=True, slots=True)
class ClassReport:
    """One class: its curve, and precision and recall at the threshold, None where undefined."""

    curve: Curve
    precision: float | None
    recall: float | None


@dataclass(frozen=True, slots=True)
class BoxReport:
    """Boxes at a threshold, over the pairs at all distances that were measured.

    Attributes:
        threshold: the score from which boxes are shown.
        is_own: whether the model states it; else it is the default.
        f1: F1 there, the mean over the classes that occur; None where there is no true box.
        best: the threshold of the best F1 on this data; None likewise.
        classes: the classes, by name.
        matches: what these numbers are of.
    """

    threshold: float
    is_own: bool
    f1: float | None
    best: Choice | None
    classes: Mapping[str, ClassReport]
    matches: Matches

    def with_threshold(self, threshold: float) -> BoxReport:
        """Return the same boxes at another threshold of the model."""
        return _report(self.matches, tuple(self.classes), threshold, is_own=True)

    def as_dict(self) -> dict[str, Any]:
        """Return the numbers, ready for JSON."""
        return {
            "threshold": self.threshold,
            "threshold_is_of": "model" if self.is_own else "default",
            "f1": self.f1,
            "best_threshold": None if self.best is None else self.best.score,
            "best_f1": None if self.best is None else self.best.f1,
            "precision": {name: own.precision for name, own in self.classes.items()},
            "recall": {name: own.recall for name, own in self.classes.items()},
        }


def measure_boxes(accuracy: BoxAccuracy, threshold: float | None) -> BoxReport:
    """Return precision and recall of all pairs that were measured.

    Args:
        accuracy: with the matches.
        threshold: the model's; None takes the default.
    """
    matches = accuracy.matches(range(accuracy.max_interval))
    shown = SHOWN_SCORE if threshold is None else threshold
    return _report(matches, accuracy.classes, shown, is_own=threshold is not None)


def _report(matches: Matches, names: Sequence[str], threshold: float, *, is_own: bool) -> BoxReport:
    classes = {}
    for label, name in enumerate(names):
        own = curve(matches, label)
        classes[name] = ClassReport(own, *at_score(own, threshold))
    has_truth = bool(matches.truths.any())
    return BoxReport(
        threshold=threshold,
        is_own=is_own,
        f1=float(mean_f1(matches, np.array([threshold]))[0]) if has_truth else None,
        best=choose_threshold(matches) if has_truth else None,
        classes=classes,
        matches=matches,
    )


def _at_least(found: NDArray[np.float32], scores: Floats) -> NDArray[np.int64]:
    """Count those that are at least each of some scores, in float32 as ``Detections.above``."""
    below = np.searchsorted(np.sort(found), scores.astype(np.float32), side="left")
    return np.asarray(len(found) - below, np.int64)
