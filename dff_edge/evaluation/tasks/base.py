"""A task as the evaluation sees it: its metric, and what is true of a frame."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from dff_edge.data.datasets import LabelledClip
from dff_edge.evaluation.accuracy import Accuracy, Metric

A = TypeVar("A")  # what is said of a frame: a label map, ``Detections``, ...


class Tally(Protocol):
    """What a task adds up, pair by pair."""

    def truth(self, clip: LabelledClip, index: int, size: tuple[int, int]) -> Any:
        """Return what is true of a frame of ``size`` (H, W), or None where that is not known."""
        ...

    def add(self, distance: int, truth: Any, answer: Any) -> None:
        """Take in an answer at a distance from its key frame."""
        ...

    def accuracy(self) -> Accuracy:
        """Return the accuracy over all pairs added."""
        ...


class MeasuredTask(ABC, Generic[A]):
    """Everything that the evaluation asks of a task.

    Attributes:
        name: of the task.
        metric: what its accuracy is.
        answers: what is said of a frame, for people: "a label map".
        not_scored: what ``Accuracy.not_scored`` is a share of, for people.
        share: what ``share_right`` is of, for people.
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
        """Start to add up for K classes and distances 0..max_interval - 1."""

    @abstractmethod
    def is_answer(self, answer: Any) -> bool:
        """Whether an answer is one of this task."""

    @abstractmethod
    def share_right(self, answer: A, truth: Any, class_count: int) -> float | None:
        """Return which share of one frame is right, 0..1; None where nothing can be."""
