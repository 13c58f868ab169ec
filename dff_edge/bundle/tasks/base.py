"""The part of a task that its bundles depend on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal

from dff_edge.bundle.tensors import TensorSpec

Cells = tuple[int, int]  # h, w of the feature map


class TaskFormat(ABC):
    """Outputs of a task's graphs, and its entries in the manifest.

    Attributes:
        name: of the task.
        decoding: the manifest's word for the step from the task network's outputs to the result.
        runtime_graph: the graph for ONNX Runtime that the runtime runs as the task network.
            "task_maps" if ``task`` continues to the result itself, which native code does faster.
        settings: the manifest's field that this task alone needs; None for none.
        truth: the method of ``LabelledClip`` that returns its labels.
    """

    name: ClassVar[str]
    decoding: ClassVar[str]
    runtime_graph: ClassVar[Literal["task", "task_maps"]] = "task"
    settings: ClassVar[str | None] = None
    truth: ClassVar[Literal["labels", "boxes"]] = "labels"

    @property
    def has_task_maps(self) -> bool:
        """Whether a bundle holds the graph ``task_maps``."""
        return self.runtime_graph == "task_maps"

    @abstractmethod
    def outputs(self, cells: Cells, classes: int, settings: Any) -> tuple[TensorSpec, ...]:
        """Return the outputs of the task network, which the decoder reads.

        Args:
            cells: ``(h, w)`` of the feature map.
            classes: K.
            settings: the value of the manifest's field ``settings``; None if there is none.
        """

    def whole_outputs(self, cells: Cells, classes: int, settings: Any) -> tuple[TensorSpec, ...]:
        """Return the outputs of ``task`` and ``propagate`` where they continue to the result."""
        return self.outputs(cells, classes, settings)
