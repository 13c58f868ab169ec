"""How much two runs over the same frames answer alike, and how much they must.

Of label maps it is the share of pixels that are labelled alike. Of detections it is the score that
both give to the same objects, of all the score that they give: twice the sum over pairs of the
lower score, by the sum of all scores. Two detections are a pair if they are of one class and
overlap by half; so what both are sure of counts, and noise hardly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from dff_edge.boxes import Detections, iou_matrix
from dff_edge.frames import LabelMap
from dff_edge.names import Precision, Task

Answers = Sequence[LabelMap | Detections]

# Pixels on the borders between classes change with the last bit of the scores: FP32 of another
# library moves less than one in a thousand. FP16 has 2**13 times coarser numbers, and sums in
# another order. In INT8 a value that lies between two levels is rounded to the other one by another
# order of sums, and layers behind see a step. Of detections a tie that breaks otherwise in NMS
# takes a whole box.
FLOORS: Mapping[Task, Mapping[Precision, float]] = {
    "segmentation": {"fp32": 0.999, "fp16": 0.99, "int8": 0.95},
    "detection": {"fp32": 0.99, "fp16": 0.95, "int8": 0.8},
}
WHAT_AGREES: Mapping[Task, str] = {
    "segmentation": "of the pixels labelled",
    "detection": "of the score given to the same objects",
}

_MIN_IOU = 0.5


def agreement(answers: Answers, expected: Answers) -> float:
    """Say how much answers for the same frames are alike, 0..1.

    Example:
        >>> agreement([np.uint8([[0, 1, 2, 3]])], [np.uint8([[0, 1, 2, 0]])])
        0.75
    """
    shared = total = 0.0
    for got, wanted in zip(answers, expected, strict=True):
        if isinstance(got, Detections) and isinstance(wanted, Detections):
            shared += 2 * _shared_score(got, wanted)
            total += float(got.scores.sum(dtype=np.float64) + wanted.scores.sum(dtype=np.float64))
        elif isinstance(got, np.ndarray) and isinstance(wanted, np.ndarray):
            alike = got == wanted
            shared += float(alike.sum())
            total += alike.size
    return shared / total if total else 1.0  # nothing seen by either


def _shared_score(found: Detections, others: Detections) -> float:
    overlaps = iou_matrix(found.boxes, others.boxes)
    overlaps[found.labels[:, None] != others.labels[None, :]] = 0
    shared = 0.0
    for index in range(len(found) if len(others) else 0):
        best = int(overlaps[index].argmax())
        if overlaps[index, best] >= _MIN_IOU:
            shared += float(min(found.scores[index], others.scores[best]))
            overlaps[:, best] = 0  # taken
    return shared
