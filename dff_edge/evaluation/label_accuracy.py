"""Mean IoU of label maps, as Cityscapes measures it: from one confusion matrix of all pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from dff_edge.data.datasets import LabelledClip
from dff_edge.data.datasets.label_png import NOT_SCORED
from dff_edge.data.datasets.truth import true_labels
from dff_edge.errors import ConfigError, ShapeError
from dff_edge.evaluation.accuracy import Accuracy, Metric, mean_of_classes
from dff_edge.frames import LabelMap

Confusion = NDArray[np.int64]  # (K, K), rows are the truth


@dataclass(frozen=True)
class LabelAccuracy(Accuracy):
    """Mean IoU.

    Attributes:
        by_distance: a ``(K, K)`` confusion matrix for each distance, rows are the truth.
    """

    metric: ClassVar[Metric] = Metric("miou", "mIoU", "IoU")
    by_distance: tuple[Confusion, ...]

    def class_scores(self, distances: range) -> NDArray[np.float64]:
        """See ``Accuracy.class_scores``."""
        return iou(np.sum([self.by_distance[distance] for distance in distances], axis=0))


class LabelTally:
    """Accumulates confusion matrices pair by pair.

    Args:
        classes: names of the K classes.
        max_interval: the largest l.
    """

    def __init__(self, classes: Sequence[str], max_interval: int) -> None:
        self._classes = tuple(classes)
        self._pixels = 0
        self._totals = np.zeros((max_interval, len(classes), len(classes)), np.int64)

    def truth(self, clip: LabelledClip, index: int, size: tuple[int, int]) -> LabelMap | None:
        """Return the label map of a frame, or None where it has none.

        Raises:
            SourceError: as ``true_labels``.
        """
        return true_labels(clip, index, size, len(self._classes))

    def add(self, distance: int, truth: LabelMap, answer: LabelMap) -> None:
        """Add a prediction at a distance from its key frame.

        Raises:
            ConfigError, ShapeError: as ``confusion``.
        """
        self._totals[distance] += confusion(truth, answer, len(self._classes))
        self._pixels += truth.size

    def accuracy(self) -> LabelAccuracy:
        """Return the accuracy over all pairs added."""
        unscored = self._pixels - int(self._totals.sum())
        share = unscored / self._pixels if self._pixels else 0.0
        return LabelAccuracy(self._classes, len(self._totals), share, tuple(self._totals))


def confusion(truth: LabelMap, labels: LabelMap, class_count: int) -> Confusion:
    """Count pixels by (true class, predicted class).

    Args:
        truth: uint8 ``(H, W)``, 0..K-1, or 255 for pixels that are not scored.
        labels: uint8 ``(H, W)``, the prediction.
        class_count: K.

    Returns:
        int64 ``(K, K)``, rows are the truth.

    Raises:
        ShapeError: when the maps differ in size.
        ConfigError: when one of them holds another class.

    Example:
        >>> confusion(np.uint8([[0, 1, 255]]), np.uint8([[0, 0, 1]]), 2).tolist()
        [[1, 0], [1, 0]]
    """
    if truth.shape != labels.shape:
        raise ShapeError(f"labels are {labels.shape}, expected the truth's {truth.shape}.")
    scored = truth != NOT_SCORED
    truths, answers = truth[scored], labels[scored]
    for name, given in (("an answer", answers), ("a true label", truths)):
        if given.size and given.max() >= class_count:
            raise ConfigError(
                f"{name} is class {given.max()}, expected 0 to {class_count - 1}: the model has "
                "other classes than the data is scored by."
            )
    pairs = truths.astype(np.int64) * class_count + answers
    counts = np.bincount(pairs, minlength=class_count * class_count)
    return counts.reshape(class_count, class_count)


def iou(matrix: Confusion) -> NDArray[np.float64]:
    """Return each class's intersection over union; NaN where it is neither true nor predicted."""
    hit = np.diag(matrix).astype(np.float64)
    union = matrix.sum(axis=0) + matrix.sum(axis=1) - hit
    ious: NDArray[np.float64] = np.full(len(hit), np.nan)
    np.divide(hit, union, out=ious, where=union > 0)
    return ious


def mean_iou(matrix: Confusion) -> float:
    """Return the mean of ``iou`` over the classes that occur; NaN when nothing was scored."""
    return mean_of_classes(iou(matrix))
