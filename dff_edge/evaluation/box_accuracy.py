"""mAP at an IoU of 0.5, as ImageNet VID is evaluated.

Boxes are matched by falling score over all frames together. A box is right if an unmatched true box
of its class and frame overlaps it enough, and is matched with the one that overlaps it most. Enough
is an IoU of 0.5, and less for small objects, for which a pixel more or less is a large share:
``min(0.5, w h / ((w + 10) (h + 10)))``. The average precision of a class is the area under its
precision, made monotonically falling with recall.

Sources: Russakovsky et al., "ImageNet Large Scale Visual Recognition Challenge", IJCV 2015, section
    4.3; the reference implementation of Zhu et al., CVPR 2017, ``imagenet_vid_eval.py``.
Differs from them: objects may be ignored; a class without a true box is left out of the mean, where
    they divide by zero; of equal scores the earlier frame's comes first, which they leave open.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from dff_edge.boxes import Boxes, Detections, TrueBoxes, areas, iou_matrix, shared_areas
from dff_edge.data.datasets import LabelledClip
from dff_edge.data.datasets.truth import true_boxes
from dff_edge.detection_matching import match_greedily
from dff_edge.errors import ConfigError
from dff_edge.evaluation.accuracy import Accuracy, Metric

_MIN_IOU = 0.5
_TOLERANCE_PX = 10
_MIN_IGNORED_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Matches:
    """The detections of some frames, matched with the true boxes; ignored ones are left out.

    Attributes:
        scores: float32 ``(n,)``.
        labels: int32 ``(n,)``.
        right: bool ``(n,)``.
        truths: int64 ``(K,)``, number of true boxes of each class that count.
    """

    scores: NDArray[np.float32]
    labels: NDArray[np.int32]
    right: NDArray[np.bool_]
    truths: NDArray[np.int64]

    @classmethod
    def join(cls, parts: Iterable[Matches], class_count: int) -> Matches:
        """Return those of all frames together, in order."""
        parts = [
            cls(
                np.empty(0, np.float32),
                np.empty(0, np.int32),
                np.empty(0, np.bool_),
                np.zeros(class_count, np.int64),
            ),
            *parts,
        ]
        return cls(
            np.concatenate([part.scores for part in parts]),
            np.concatenate([part.labels for part in parts]),
            np.concatenate([part.right for part in parts]),
            np.sum([part.truths for part in parts], axis=0),
        )


@dataclass(frozen=True)
class BoxAccuracy(Accuracy):
    """Mean average precision.

    Attributes:
        by_distance: matches at each distance.
    """

    metric: ClassVar[Metric] = Metric("map", "mAP@0.5", "AP")
    by_distance: tuple[Matches, ...]

    def class_scores(self, distances: range) -> NDArray[np.float64]:
        """See ``Accuracy.class_scores``: AP, NaN for a class without a true box."""
        count, matches = len(self.classes), self.matches(distances)
        order = np.argsort(-matches.scores, kind="stable")
        labels, right = matches.labels[order], matches.right[order]
        precisions = [
            average_precision(right[labels == label], int(matches.truths[label]))
            for label in range(count)
        ]
        return np.array(precisions, np.float64)

    def matches(self, distances: range) -> Matches:
        """Return the matches of all pairs at some distances, from the lag on."""
        joined = (self.by_distance[distance] for distance in distances)
        return Matches.join(joined, len(self.classes))


class BoxTally:
    """Matches detections pair by pair.

    Args:
        classes: names of the K classes.
        max_interval: the largest l.
    """

    def __init__(self, classes: Sequence[str], max_interval: int) -> None:
        self._classes = tuple(classes)
        self._matches: list[list[Matches]] = [[] for _ in range(max_interval)]
        self._boxes = self._ignored = 0

    def truth(self, clip: LabelledClip, index: int, size: tuple[int, int]) -> TrueBoxes | None:
        """Return the true boxes of a frame, or None where it is not annotated.

        Raises:
            SourceError: as ``true_boxes``.
        """
        fitted = true_boxes(clip, index, size, len(self._classes))
        return None if fitted is None else fitted.boxes

    def add(self, distance: int, truth: TrueBoxes, answer: Detections) -> None:
        """Add detections at a distance from their key frame.

        Raises:
            ConfigError: as ``match``.
        """
        self._matches[distance].append(match(answer, truth, len(self._classes)))
        self._boxes += len(truth)
        self._ignored += int(truth.ignored.sum())

    def accuracy(self) -> BoxAccuracy:
        """Return the accuracy over all pairs added."""
        count = len(self._classes)
        joined = tuple(Matches.join(parts, count) for parts in self._matches)
        share = self._ignored / self._boxes if self._boxes else 0.0
        return BoxAccuracy(self._classes, len(self._matches), share, joined)


def match(found: Detections, truth: TrueBoxes, class_count: int) -> Matches:
    """Match the detections of one frame with its true boxes.

    A detection that is not right is left out if half of it or more lies in an ignored object of
    its class.

    Args:
        found: in pixels of the frame.
        truth: the same; labels of ``class_count`` and above are not scored.
        class_count: K.

    Raises:
        ConfigError: a detection is of a class that the truth cannot have.
    """
    if len(found) and found.labels.max() >= class_count:
        raise ConfigError(
            f"a detection is of class {found.labels.max()}, expected 0 to {class_count - 1}: the "
            "model has other classes than the data is scored by."
        )
    order = np.argsort(-found.scores, kind="stable")
    boxes, labels = found.boxes[order], found.labels[order]
    wanted = ~truth.ignored & (truth.labels < class_count)
    overlaps = iou_matrix(boxes, truth.boxes[wanted])
    is_same_class = labels[:, None] == truth.labels[wanted][None, :]
    is_enough = (overlaps > 0) & (overlaps >= _least_iou(truth.boxes[wanted])[None, :])
    right = match_greedily(overlaps, is_same_class & is_enough) >= 0

    scored = right | ~_lies_in_ignored(boxes, labels, truth)
    return Matches(
        found.scores[order][scored],
        labels[scored],
        right[scored],
        np.bincount(truth.labels[wanted], minlength=class_count).astype(np.int64),
    )


def average_precision(right: NDArray[np.bool_], truths: int) -> float:
    """Return the area under precision by recall.

    Args:
        right: bool ``(n,)``, whether each detection of a class is right, by falling score.
        truths: number of true boxes.

    Returns:
        0..1; NaN when there is no true box.

    Example:
        >>> average_precision(np.array([True, False, True]), 4)  # 1/4 * 1 + 1/4 * 2/3
        0.4166666666666667
    """
    if truths == 0:
        return float("nan")
    precision = np.cumsum(right) / np.arange(1, len(right) + 1)
    never_rising = np.maximum.accumulate(precision[::-1])[::-1]
    return float(never_rising[right].sum() / truths)  # each right detection is a step of recall


def _least_iou(boxes: Boxes) -> NDArray[np.float32]:
    sides = boxes[:, 2:] - boxes[:, :2]
    shares: NDArray[np.float32] = areas(boxes) / (sides + _TOLERANCE_PX).prod(axis=1)
    return np.asarray(np.minimum(shares, _MIN_IOU), np.float32)


def _lies_in_ignored(
    boxes: Boxes, labels: NDArray[np.int32], truth: TrueBoxes
) -> NDArray[np.bool_]:
    shared = shared_areas(boxes, truth.boxes[truth.ignored])
    is_own = labels[:, None] == truth.labels[truth.ignored][None, :]
    most = np.where(is_own, shared, 0).max(axis=1, initial=0)
    return np.asarray((most > 0) & (most >= _MIN_IGNORED_SHARE * areas(boxes)), np.bool_)
