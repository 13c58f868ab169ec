"""How good results are: mean IoU at every distance from the key frame, and temporal consistency.

Protocol of Zhu et al., CVPR 2017, arXiv:1611.07715, section 5.2: for each labelled frame i, the
pairs (k, i) with k = i - l + 1 .. i. "DFF at l" is the mean IoU over all these pairs together, one
confusion matrix; "at distance d" takes the pairs with i - k = d.

The same code evaluates a torch model and a bundle, both behind ``Recogniser``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dff_edge.runtime.clips import LabelledClip
from dff_edge.runtime.errors import ConfigError, ShapeError, SourceError
from dff_edge.runtime.frames import Image, LabelMap

Confusion = NDArray[np.int64]  # (K, K), rows are the truth


class Recogniser(Protocol):
    """Deep Feature Flow, one call at a time."""

    def extract(self, image: Image) -> Any:
        """What is kept of a key frame: its features and its half-size image."""
        ...

    def answer(self, key: Any, image: Image | None) -> LabelMap:
        """Label map of ``image``, answered from ``key``; None stands for the key frame itself."""
        ...


@dataclass(frozen=True)
class Accuracy:
    """Confusion matrices by distance.

    Attributes:
        classes: names of the K classes.
        by_distance: one ``(K, K)`` matrix for each distance 0..l-1, rows are the truth.
    """

    classes: tuple[str, ...]
    by_distance: tuple[Confusion, ...]

    def miou_at_distance(self, distance: int) -> float:
        """Mean IoU of the pairs at one distance, 0..1; NaN when nothing was scored."""
        if not 0 <= distance < len(self.by_distance):
            raise ConfigError(
                f"distance {distance} was not evaluated, expected 0 to {len(self.by_distance) - 1}."
            )
        return mean_iou(self.by_distance[distance])

    def miou_at_interval(self, interval: int) -> float:
        """Mean IoU of all pairs at distances 0..l-1 together: "DFF at l", 0..1 or NaN."""
        return mean_iou(self._within(interval))

    def class_iou(self, interval: int) -> dict[str, float | None]:
        """IoU of each class over distances 0..l-1; None for a class that never occurs."""
        ious = iou(self._within(interval))
        return {
            name: None if np.isnan(value) else float(value)
            for name, value in zip(self.classes, ious, strict=True)
        }

    def _within(self, interval: int) -> Confusion:
        if not 1 <= interval <= len(self.by_distance):
            raise ConfigError(
                f"interval {interval} was not evaluated, expected 1 to {len(self.by_distance)}."
            )
        within: Confusion = np.sum(self.by_distance[:interval], axis=0)
        return within


def confusion(truth: LabelMap, labels: LabelMap, class_count: int) -> Confusion:
    """Count pixels by (true class, answered class).

    Args:
        truth: uint8 ``(H, W)``; labels of ``class_count`` and above are not scored.
        labels: uint8 ``(H, W)``, the answer.
        class_count: K.

    Returns:
        int64 ``(K, K)``, rows are the truth.

    Raises:
        ShapeError: when the maps differ in size.
        ConfigError: when the answer holds a class that the truth cannot have.

    Example:
        >>> confusion(np.uint8([[0, 1, 255]]), np.uint8([[0, 0, 1]]), 2).tolist()
        [[1, 0], [1, 0]]
    """
    if truth.shape != labels.shape:
        raise ShapeError(f"labels are {labels.shape}, expected the truth's {truth.shape}.")
    scored = truth < class_count
    answers = labels[scored]
    if answers.size and answers.max() >= class_count:
        raise ConfigError(
            f"an answer is class {answers.max()}, expected 0 to {class_count - 1}: the model has "
            "other classes than the data is scored by."
        )
    pairs = truth[scored].astype(np.int64) * class_count + answers
    counts = np.bincount(pairs, minlength=class_count * class_count)
    return counts.reshape(class_count, class_count)


def iou(matrix: Confusion) -> NDArray[np.float64]:
    """Intersection over union of each class; NaN where a class is neither true nor answered."""
    hit = np.diag(matrix).astype(np.float64)
    union = matrix.sum(axis=0) + matrix.sum(axis=1) - hit
    ious: NDArray[np.float64] = np.full(len(hit), np.nan)
    np.divide(hit, union, out=ious, where=union > 0)
    return ious


def mean_iou(matrix: Confusion) -> float:
    """Mean of ``iou`` over the classes that occur; NaN when nothing was scored."""
    ious = iou(matrix)
    return float(np.nanmean(ious)) if np.isfinite(ious).any() else float("nan")


def evaluate(
    recogniser: Recogniser,
    clips: Sequence[LabelledClip],
    classes: Sequence[str],
    max_interval: int = 10,
    progress: Callable[[int, int], None] | None = None,
) -> Accuracy:
    """Measure accuracy at every distance 0..max_interval - 1.

    Only labelled frames with ``max_interval - 1`` frames before them count, so that every distance
    is measured on the same frames. The features of a frame are computed once.

    Args:
        recogniser: what is evaluated.
        clips: labelled video.
        classes: names of the K classes; true labels of K and above are not scored.
        max_interval: the largest key interval of interest, l.
        progress: called with (clips done, clips in all).

    Raises:
        ConfigError: when no clip has a labelled frame with enough frames before it, or the model
            answers a class that is not in ``classes``.
        SourceError: when a label map has not the size of its frame.
    """
    if max_interval < 1:
        raise ConfigError(f"max_interval is {max_interval}, expected 1 or more frames.")
    totals = np.zeros((max_interval, len(classes), len(classes)), np.int64)
    pairs = 0
    for done, clip in enumerate(clips):
        extract = lru_cache(maxsize=max_interval)(_extractor(recogniser, clip))
        for i in range(max_interval - 1, len(clip)):
            truth = clip.labels(i)
            if truth is None:
                continue
            image = clip.image(i)
            _check_size(clip, i, image, truth)
            # From the oldest key frame on: the other way round the cache would lose each entry
            # just before it is needed again.
            for distance in reversed(range(max_interval)):
                key = extract(i - distance)
                labels = recogniser.answer(key, image if distance else None)
                totals[distance] += confusion(truth, labels, len(classes))
                pairs += 1
        if progress is not None:
            progress(done + 1, len(clips))
    if pairs == 0:
        raise ConfigError(
            f"no labelled frame has {max_interval - 1} frames before it in its clip, which key "
            f"intervals up to {max_interval} need. Give longer clips or a smaller interval."
        )
    return Accuracy(tuple(classes), tuple(totals))


def temporal_consistency(
    recogniser: Recogniser, clips: Sequence[LabelledClip], class_count: int, interval: int
) -> float | None:
    """Say how steady results are: mean IoU of each against the one before, moved by true flow.

    Runs Algorithm 1 at a fixed key interval; pixels that were hidden or outside are not counted,
    nor are clips whose true flow is unknown.

    Args:
        recogniser: what is measured.
        clips: video; labels are not needed.
        class_count: K.
        interval: key interval l.

    Returns:
        0..1, or None when no clip of two frames and more knows its true flow.
    """
    if interval < 1:
        raise ConfigError(f"interval is {interval}, expected 1 or more frames.")
    total = np.zeros((class_count, class_count), np.int64)
    for clip in clips:
        key: Any = None
        before: LabelMap | None = None
        if len(clip) < 2 or clip.flow(1, 0) is None:
            continue
        for i in range(len(clip)):
            image = clip.image(i)
            if i % interval == 0:
                key = recogniser.extract(image)
            labels = recogniser.answer(key, image if i % interval else None)
            if before is not None:
                known = clip.flow(i, i - 1)
                assert known is not None  # a clip knows all of its flow or none
                total += confusion(_moved(before, *known), labels, class_count)
            before = labels
    return mean_iou(total) if total.any() else None


def _extractor(recogniser: Recogniser, clip: LabelledClip) -> Callable[[int], Any]:
    def extract(index: int) -> Any:
        return recogniser.extract(clip.image(index))

    return extract


def _check_size(clip: LabelledClip, index: int, image: Image, truth: LabelMap) -> None:
    if image.shape[:2] != truth.shape:
        raise SourceError(
            f"clip '{clip.name}': the labels of frame {index} are {truth.shape}, expected the "
            f"size of the frame, {image.shape[:2]}."
        )


def _moved(before: LabelMap, flow: NDArray[np.float32], occluded: NDArray[np.bool_]) -> LabelMap:
    """The earlier labels where the flow finds them, 255 where it cannot."""
    height, width = before.shape
    ys, xs = np.indices((height, width))
    from_y = np.clip(np.rint(ys + flow[..., 1]).astype(int), 0, height - 1)
    from_x = np.clip(np.rint(xs + flow[..., 0]).astype(int), 0, width - 1)
    moved: LabelMap = before[from_y, from_x]
    moved[occluded] = 255
    return moved
