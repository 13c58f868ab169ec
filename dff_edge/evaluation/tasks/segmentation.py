"""Semantic segmentation, measured by mean IoU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dff_edge.evaluation.label_accuracy import LabelAccuracy, LabelTally
from dff_edge.evaluation.tasks.base import MeasuredTask
from dff_edge.frames import LabelMap
from dff_edge.runtime.drawing.style import Style


class MeasuredSegmentation(MeasuredTask[LabelMap]):
    """Label maps compared with label maps."""

    name = "segmentation"
    metric = LabelAccuracy.metric
    answers = "a label map"
    not_scored = "pixels (label 255)"
    share = "of the pixels right"
    has_consistency = True

    def tally(self, classes: Sequence[str], max_interval: int) -> LabelTally:
        """See ``MeasuredTask.tally``."""
        return LabelTally(classes, max_interval)

    def is_answer(self, answer: Any) -> bool:
        """See ``MeasuredTask.is_answer``."""
        return isinstance(answer, np.ndarray) and answer.dtype == np.uint8

    def share_right(
        self, answer: LabelMap, truth: LabelMap, class_count: int, style: Style
    ) -> float | None:
        """See ``MeasuredTask.share_right``: of the pixels."""
        scored = truth < class_count
        return float(np.mean(answer[scored] == truth[scored])) if scored.any() else None


TASK = MeasuredSegmentation()
