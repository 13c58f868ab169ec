"""Object detection in a bundle: R-FCN's learned maps, or the boxes made from them."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from dff_edge.bundle.tasks.base import Cells, TaskFormat
from dff_edge.bundle.tensors import TensorSpec


class DetectorSizes(Protocol):
    """Sizes that determine the shapes of a detector's tensors; see ``RfcnSettings``."""

    @property
    def bins(self) -> int: ...

    @property
    def anchors(self) -> int: ...

    @property
    def detections(self) -> int: ...


class DetectionFormat(TaskFormat):
    """Learned maps for the native decoder; the whole task graph ends with boxes."""

    name = "detection"
    decoding = "rfcn"
    runtime_graph = "task_maps"
    settings = "rfcn"
    truth = "boxes"

    def outputs(
        self, cells: Cells, classes: int, settings: DetectorSizes
    ) -> tuple[TensorSpec, ...]:
        """See ``TaskFormat.outputs``: the learned maps."""
        float32, bins = np.dtype(np.float32), settings.bins**2
        return (
            TensorSpec("objectness", float32, (1, *cells, settings.anchors)),
            TensorSpec("deltas", float32, (1, *cells, 4 * settings.anchors)),
            TensorSpec("class_maps", float32, (1, *cells, bins * (classes + 1))),
            TensorSpec("box_maps", float32, (1, *cells, 4 * bins)),
        )

    def whole_outputs(
        self, cells: Cells, classes: int, settings: DetectorSizes
    ) -> tuple[TensorSpec, ...]:
        """See ``TaskFormat.whole_outputs``: the boxes."""
        float32, int32, most = np.dtype(np.float32), np.dtype(np.int32), settings.detections
        return (
            TensorSpec("boxes", float32, (1, most, 4)),
            TensorSpec("scores", float32, (1, most)),
            TensorSpec("labels", int32, (1, most)),
            TensorSpec("count", int32, (1,)),
        )


FORMAT = DetectionFormat()
