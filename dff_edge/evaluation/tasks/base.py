"""A task in the evaluation: its metric, and the true labels of a frame."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from dff_edge.data.datasets import LabelledClip
from dff_edge.evaluation.accuracy import Accuracy, Metric

A = TypeVar("A")  # result for a frame: a label map, ``Detections``, ...


class Tally(Protocol):
    """The accumulated results of a task, pair by pair."""

    def truth(self, clip: LabelledClip, index: int, size: tuple[int, int]) -> Any:
        """Return labels or boxes of a frame of ``size`` (H, W), or None where it has none."""
        ...

    def add(self, distance: int, truth: Any, answer: Any) -> None:
        """Add a prediction at a distance from its key frame."""
        ...

    def accuracy(self) -> Accuracy:
        """Return the accuracy over all pairs added."""
        ...


class MeasuredTask(ABC, Generic[A]):
    """The interface of a task for the evaluation.

    Attributes:
        name: of the task.
        metric: the measure of its accuracy.
        answers: its results, for people: "a label map".
        not_scored: the things that ``Accuracy.not_scored`` is a share of, for people.
        share: the things that ``share_right`` is a share of, for people.
        has_consistency: whether temporal consistency can be measured, which compares label maps.
    """

    name: ClassVar[str]
    metric: ClassVar[Metric]
    answers: ClassVar[str]
    not_scored: ClassVar[str]
    share: ClassVar[str]
    has_consistency: ClassVar[bool] = False

    @abstractmethod
    def tally(self, classes: Sequence[str], max_interval: int) -> Tally:
        """Return an empty tally for K classes and distances 0..max_interval - 1."""

    @abstractmethod
    def is_answer(self, answer: Any) -> bool:
        """Return whether a value is a result of this task."""

    @abstractmethod
    def share_right(self, answer: A, truth: Any, class_count: int) -> float | None:
        """Return the share of one frame that is right, 0..1; None where nothing can be."""
