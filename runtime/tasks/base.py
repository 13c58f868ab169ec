"""A task in the runtime: from the task network's outputs to a result."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

from numpy.typing import NDArray

from dff_edge.bundle.manifest import Manifest
from dff_edge.errors import ConfigError
from dff_edge.frames import Image
from dff_edge.names import Precision
from dff_edge.runtime.drawing.style import Style
from dff_edge.runtime.drawing.text import Colours
from dff_edge.runtime.tasks.decoders import Decoder

A = TypeVar("A")  # result for a frame: a label map, ``Detections``, ...
Size = tuple[int, int]  # H, W


@dataclass(frozen=True, slots=True)
class AgreementRule:
    """Lower bounds on the agreement of two precisions.

    Attributes:
        least: share, 0..1, by precision.
        unit: the things counted, such as "pixels".
        text: the things that the share is of, to follow a percentage.
    """

    least: Mapping[Precision, float]
    unit: str
    text: str


class Task(ABC, Generic[A]):
    """The interface of a task for the runtime. One object serves all bundles and threads.

    Attributes:
        name: of the task.
        gives_label_maps: whether its results are label maps, which ``labels://`` writes.
        gives_scores: whether its results are objects with scores, which ``min_score`` is for.
        deployed: agreement of engines and the graphs that they were built from.
        calibrated: agreement of a precision and fp32, on the frames of a calibration.
    """

    name: ClassVar[str]
    gives_label_maps: ClassVar[bool] = False
    gives_scores: ClassVar[bool] = False
    deployed: ClassVar[AgreementRule]
    calibrated: ClassVar[AgreementRule]

    @abstractmethod
    def decoder(self, manifest: Manifest, *, threads: int = 1, confidence: bool = False) -> Decoder:
        """Make a decoder for a bundle.

        Args:
            manifest: of the bundle.
            threads: of the kernels, at most.
            confidence: whether results have a confidence for each pixel.

        Raises:
            ConfigError: the task has no confidence.
        """

    def whole_answer(self, outputs: Mapping[str, NDArray[Any]]) -> A | None:
        """Return the result that the graphs ``task`` and ``propagate`` end with.

        None if their outputs are for the decoder; see ``TaskFormat.whole_outputs``.
        """
        return None

    @abstractmethod
    def record(self, answer: A, classes: Sequence[str], min_score: float) -> dict[str, Any]:
        """Return the result's fields of a line of JSON.

        Args:
            answer: result of a frame.
            classes: names of the classes.
            min_score: objects that score less are left out.
        """

    @abstractmethod
    def draw(
        self,
        image: Image,
        answer: A,
        classes: Sequence[str],
        colours: Colours,
        style: Style,
        *,
        size: Size,
        caption: str | None = None,
    ) -> Image:
        """Draw a result over its frame.

        Args:
            image: uint8 ``(h, w, 3)`` BGR, the frame, which may be scaled down.
            answer: result of the frame at its own size.
            classes: names of the classes.
            colours: ``(red, green, blue)`` of each class.
            style: which parts are drawn, and how.
            size: ``(H, W)`` of the frame.
            caption: a line for the top left corner.
        """

    @abstractmethod
    def shared(self, answer: A, expected: A) -> tuple[float, float]:
        """Return the number of equal results of two engines, or engine and graph, and of all."""

    def disagreement(self, answer: A, full: A) -> float:
        """Return the share 0..1 of an answer that the full network (``full``) gives otherwise."""
        same, total = self.shared(answer, full)
        return 1 - same / total if total else 0.0

    @abstractmethod
    def kept(self, answer: A, expected: A) -> tuple[float, float]:
        """Return the count of results equal to fp32's (``expected``), and of all."""


def no_confidence(task: str, instead: str) -> ConfigError:
    """Return the error of a confidence requested of a task without one."""
    return ConfigError(f"confidence=True needs label maps; this bundle does {task}, {instead}.")
