"""A task in the evaluation: its metric, and the true labels of a frame."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from dff_edge.data.datasets import LabelledClip
from dff_edge.evaluation.accuracy import Accuracy, Metric
from dff_edge.frames import Image
from dff_edge.runtime.drawing.style import Style
from dff_edge.runtime.drawing.text import Colours
from dff_edge.runtime.tasks import RUNTIME_TASKS

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
    def share_right(self, answer: A, truth: Any, class_count: int, style: Style) -> float | None:
        """Return the share of one frame's drawn result that is right, 0..1; None if nothing can be.

        Args:
            answer: result of the frame.
            truth: its labels or boxes, as of ``Tally.truth``.
            class_count: K.
            style: which parts are drawn.
        """

    def draw_truth(
        self, image: Image, truth: Any, classes: Sequence[str], colours: Colours, style: Style
    ) -> Image:
        """Draw the truth of a frame over it, like a result.

        Args:
            image: uint8 ``(H, W, 3)`` BGR; not changed.
            truth: labels or boxes of the frame, in its pixels.
            classes: names of the classes.
            colours: ``(red, green, blue)`` of each class.
            style: which parts are drawn, and how.
        """
        task, size = RUNTIME_TASKS.find(self.name), (image.shape[0], image.shape[1])
        return task.draw(image, truth, classes, colours, style, size=size)
