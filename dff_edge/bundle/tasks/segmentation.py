"""Semantic segmentation in a bundle: a score map for each class."""

from __future__ import annotations

from typing import Any

import numpy as np

from dff_edge.bundle.tasks.base import Cells, TaskFormat
from dff_edge.bundle.tensors import TensorSpec


class SegmentationFormat(TaskFormat):
    """Scores of K classes in each feature cell."""

    name = "segmentation"
    decoding = "bilinear_half_pixel_argmax"

    def outputs(self, cells: Cells, classes: int, settings: Any) -> tuple[TensorSpec, ...]:
        """See ``TaskFormat.outputs``."""
        return (TensorSpec("scores", np.dtype(np.float32), (1, *cells, classes)),)


FORMAT = SegmentationFormat()
