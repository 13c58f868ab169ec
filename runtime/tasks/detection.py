"""Object detection by R-FCN: boxes with classes and scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dff_edge.boxes import Detections, in_source_pixels
from dff_edge.bundle.contract import STRIDE
from dff_edge.bundle.manifest import Manifest
from dff_edge.bundle.rfcn import RfcnSettings
from dff_edge.detection_matching import (
    LEAST_SCORE,
    SAME_IOU,
    SURE_SCORE,
    detections_of,
    partners,
)
from dff_edge.frames import Image
from dff_edge.runtime.devices.cpu import kernel_threads
from dff_edge.runtime.drawing.boxes import draw_boxes
from dff_edge.runtime.drawing.style import Style
from dff_edge.runtime.drawing.text import Colours
from dff_edge.runtime.kernels.detect import Detector
from dff_edge.runtime.tasks.base import AgreementRule, Size, Task, no_confidence
from dff_edge.runtime.tasks.decoders import Answer


class BoxDecoder:
    """Detections from the learned maps of R-FCN, on the host in any case.

    Args:
        settings: of the detector.
        frame_size: ``(H, W)`` of the network's frames.
        classes: K, without the background.
        threads: of the kernels, at most.
        stride: pixels of the frame per feature cell.
    """

    def __init__(
        self,
        settings: RfcnSettings,
        frame_size: Size,
        classes: int,
        *,
        threads: int = 1,
        stride: int = STRIDE,
    ) -> None:
        self._frame_size = frame_size
        # The threads share the pooling: 2 x 2 samples of every map in every bin of a proposal.
        samples = 4 * settings.proposals * settings.bins**2 * (1 + classes + 4)
        self._threads = kernel_threads(samples, threads)
        cells = (frame_size[0] // stride, frame_size[1] // stride)
        self._detector = Detector(settings, cells, classes, stride=stride)

    def decode(self, outputs: Mapping[str, NDArray[Any]], size: Size) -> Answer:
        """See ``Decoder.decode``; reads the maps of ``task_maps``, float32 ``(1, h, w, *)``."""
        found = self._detector.finish(
            outputs["objectness"][0],
            outputs["deltas"][0],
            outputs["class_maps"][0],
            outputs["box_maps"][0],
            threads=self._threads,
        )
        found = in_source_pixels(found, self._frame_size, size)
        return Answer(detections=found, task="detection")


class Detection(Task[Detections]):
    """Finds objects; results are ``Detections`` in pixels of the frame."""

    name = "detection"
    gives_scores = True
    # See ``Segmentation``; here a tie that breaks otherwise in NMS takes a whole box.
    deployed = AgreementRule(
        {"fp32": 0.99, "fp16": 0.95, "int8": 0.8},
        "detections",
        "of the score given to the same objects",
    )
    calibrated = AgreementRule(
        {"int8": 0.9, "fp16": 0.98},
        "detections",
        "of the detections that are certain in fp32 are matched",
    )

    def decoder(
        self, manifest: Manifest, *, threads: int = 1, confidence: bool = False
    ) -> BoxDecoder:
        """See ``Task.decoder``."""
        if confidence:
            raise no_confidence("detection", "and every box has its score (detections.scores)")
        assert manifest.rfcn is not None  # checked with the manifest
        return BoxDecoder(
            manifest.rfcn,
            manifest.frame_size,
            len(manifest.classes),
            threads=threads,
            stride=manifest.stride,
        )

    def whole_answer(self, outputs: Mapping[str, NDArray[Any]]) -> Detections | None:
        """See ``Task.whole_answer``."""
        return detections_of(outputs) if "count" in outputs else None

    def record(
        self, answer: Detections, classes: Sequence[str], min_score: float
    ) -> dict[str, Any]:
        """See ``Task.record``: ``objects``, with ``class``, ``score`` and ``box``."""
        found = answer.above(min_score)
        objects = [
            {
                "class": classes[label],
                "score": round(score, 4),
                "box": [round(side, 2) for side in box],
            }
            for box, score, label in zip(
                found.boxes.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True
            )
        ]
        return {"objects": objects}

    def draw(
        self,
        image: Image,
        answer: Detections,
        classes: Sequence[str],
        colours: Colours,
        style: Style,
        *,
        size: Size,
        caption: str | None = None,
    ) -> Image:
        """See ``Task.draw``: boxes with names and scores."""
        found = _of_classes(answer.above(style.least_score), style.shown)
        shown = in_source_pixels(found, size, (image.shape[0], image.shape[1]))
        return draw_boxes(image, shown, colours, classes, caption=caption)

    def shared(self, answer: Detections, expected: Detections) -> tuple[float, float]:
        """See ``Task.shared``: the score that both assign to the same objects, of all scores.

        It is twice the sum over pairs of the lower score, by the sum of all scores, so that
        certain detections count, and noise hardly. A pair is of one class and overlaps by half.
        """
        found = partners(answer, expected, min_iou=SAME_IOU)
        is_there = found >= 0
        lower = np.minimum(answer.scores[is_there], expected.scores[found[is_there]])
        total = answer.scores.sum(dtype=np.float64) + expected.scores.sum(dtype=np.float64)
        return 2 * float(lower.sum(dtype=np.float64)), float(total)

    def disagreement(self, answer: Detections, full: Detections) -> float:
        """See ``Task.disagreement``: the score that is not shared, of all scores.

        Of boxes that may be objects, and of one certain object in each answer at least: where next
        to nothing is seen, next to nothing is in doubt.
        """
        same, total = self.shared(answer.above(LEAST_SCORE), full.above(LEAST_SCORE))
        return (total - same) / max(total, 2.0)

    def kept(self, answer: Detections, expected: Detections) -> tuple[float, float]:
        """See ``Task.kept``: objects that are certain in fp32 and are matched."""
        sure = expected.above(SURE_SCORE)
        return float((partners(sure, answer, min_iou=SAME_IOU) >= 0).sum()), float(len(sure))


TASK = Detection()


def _of_classes(found: Detections, shown: frozenset[int] | None) -> Detections:
    if shown is None:
        return found
    kept = np.isin(found.labels, sorted(shown))
    return Detections(found.boxes[kept], found.scores[kept], found.labels[kept])
