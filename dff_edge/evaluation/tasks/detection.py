"""Object detection, measured by mAP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dff_edge.boxes import Detections, TrueBoxes
from dff_edge.evaluation.box_accuracy import BoxAccuracy, BoxTally, match
from dff_edge.evaluation.tasks.base import MeasuredTask
from dff_edge.frames import Image
from dff_edge.runtime.drawing.boxes import draw_boxes
from dff_edge.runtime.drawing.style import Style
from dff_edge.runtime.drawing.text import Colours


class MeasuredDetection(MeasuredTask[Detections]):
    """Detections compared with true boxes."""

    name = "detection"
    metric = BoxAccuracy.metric
    answers = "boxes"
    not_scored = "boxes (ignored)"
    share = "of the objects found"

    def tally(self, classes: Sequence[str], max_interval: int) -> BoxTally:
        """See ``MeasuredTask.tally``."""
        return BoxTally(classes, max_interval)

    def is_answer(self, answer: Any) -> bool:
        """See ``MeasuredTask.is_answer``."""
        return isinstance(answer, Detections)

    def share_right(
        self, answer: Detections, truth: TrueBoxes, class_count: int, style: Style
    ) -> float | None:
        """See ``MeasuredTask.share_right``: of the true objects, those that were matched."""
        matches = match(answer.above(style.least_score), truth, class_count)
        wanted = int(matches.truths.sum())
        return float(matches.right.sum() / wanted) if wanted else None

    def draw_truth(
        self, image: Image, truth: TrueBoxes, classes: Sequence[str], colours: Colours, style: Style
    ) -> Image:
        """See ``MeasuredTask.draw_truth``; true boxes have no scores."""
        return draw_boxes(image, truth, colours, classes)


TASK = MeasuredDetection()
