"""Quality of results: accuracy at every distance from the key frame, temporal consistency.

Protocol of Zhu et al., CVPR 2017, arXiv:1611.07715, section 5.2: for each labelled frame i, the
pairs (k, i) with k = i - l + 1 .. i. "DFF at l" is the accuracy over all these pairs together, as
if they were so many frames; "at distance d" uses the pairs with i - k = d. Accuracy is the
metric of the task: mean IoU (``label_accuracy``), mAP (``box_accuracy``), ...

The same code evaluates a torch model and a bundle, both behind ``Predictor``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dff_edge.bundle.tasks import TaskName
from dff_edge.data.datasets import LabelledClip
from dff_edge.data.datasets.label_png import NOT_SCORED
from dff_edge.errors import ConfigError
from dff_edge.evaluation.accuracy import Accuracy
from dff_edge.evaluation.label_accuracy import confusion, mean_iou
from dff_edge.evaluation.tasks import MEASURED_TASKS
from dff_edge.frames import Image, LabelMap


class Predictor(Protocol):
    """Deep Feature Flow, one call at a time."""

    def extract(self, image: Image) -> Any:
        """Return the data kept of a key frame: its features and its half-size image."""
        ...

    def predict(self, key: Any, image: Image | None) -> Any:
        """Predict for ``image`` from ``key``; None stands for the key frame itself.

        Returns the result of the model's task: a label map, ``Detections`` in pixels of the
        image, ...
        """
        ...


def evaluate(
    predictor: Predictor,
    clips: Sequence[LabelledClip],
    classes: Sequence[str],
    max_interval: int = 10,
    progress: Callable[[int, int], None] | None = None,
    task: TaskName = "segmentation",
    lag: int = 0,
) -> Accuracy:
    """Measure accuracy at every distance lag..lag + max_interval - 1.

    Only labelled frames with ``lag + max_interval - 1`` frames before them count, so that every
    distance is measured on the same frames. The features of a frame are computed once.

    Args:
        predictor: the model to evaluate.
        clips: labelled video.
        classes: names of the K classes.
        max_interval: the largest key interval of interest, l.
        progress: called with (clips done, clips in all).
        task: the task of the model.
        lag: frames after which the features of a key frame are used. At a key interval l of at
            least as many, frames are then answered over the distances lag..lag + l - 1.

    Raises:
        ConfigError: when no clip has a labelled frame with enough frames before it, or the model
            predicts a class that is not in ``classes``, or results of another task.
        SourceError: when labels do not fit their frame, or are of no class (``datasets/truth``).
    """
    if max_interval < 1:
        raise ConfigError(f"max_interval is {max_interval}, expected 1 or more frames.")
    if lag < 0:
        raise ConfigError(f"lag is {lag}, expected 0 or more frames.")
    before = lag + max_interval - 1
    measured = MEASURED_TASKS.find(task)
    tally = measured.tally(classes, max_interval)
    pairs = 0
    for done, clip in enumerate(clips):
        extract = lru_cache(maxsize=before + 1)(_extractor(predictor, clip))
        for i in range(before, len(clip)):
            if not clip.is_labelled(i):
                continue
            image = clip.image(i)
            truth = tally.truth(clip, i, (image.shape[0], image.shape[1]))
            if truth is None:
                continue
            # From the oldest key frame on: in the other order the cache would drop each entry
            # just before it is needed again.
            for distance in reversed(range(lag, before + 1)):
                key = extract(i - distance)
                answer = predictor.predict(key, image if distance else None)
                if not measured.is_answer(answer):
                    raise ConfigError(
                        f"the model does not predict {measured.answers}, expected of task '{task}'."
                    )
                tally.add(distance - lag, truth, answer)
                pairs += 1
        if progress is not None:
            progress(done + 1, len(clips))
    if pairs == 0:
        raise ConfigError(
            f"no labelled frame has {before} frames before it in its clip, which key intervals up "
            f"to {max_interval} need{f' with a lag of {lag}' * bool(lag)}; for {task} its label is "
            f"{measured.answers}. Give longer clips, a smaller interval, or data of that kind."
        )
    return tally.accuracy().after(lag)


def temporal_consistency(
    predictor: Predictor, clips: Sequence[LabelledClip], class_count: int, interval: int
) -> float | None:
    """Return the mean IoU of each label map and the one before, moved by true flow.

    Runs Algorithm 1 at a fixed key interval; pixels that were hidden or outside are not counted,
    nor are clips without true flow.

    Args:
        predictor: the model to measure.
        clips: video; labels are not needed.
        class_count: K.
        interval: key interval l.

    Returns:
        0..1, or None when no clip of two or more frames has true flow.

    Raises:
        ConfigError: the interval is below 1, or the model does not predict label maps.
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
                key = predictor.extract(image)
            labels = predictor.predict(key, image if i % interval else None)
            if not MEASURED_TASKS.find("segmentation").is_answer(labels):
                raise ConfigError(
                    "temporal consistency was requested of a model without label maps, expected "
                    "one that segments."
                )
            if before is not None:
                known = clip.flow(i, i - 1)
                assert known is not None  # a clip has true flow for all frames or none
                total += confusion(_moved(before, *known), labels, class_count)
            before = labels
    return mean_iou(total) if total.any() else None


def _extractor(predictor: Predictor, clip: LabelledClip) -> Callable[[int], Any]:
    def extract(index: int) -> Any:
        return predictor.extract(clip.image(index))

    return extract


def _moved(before: LabelMap, flow: NDArray[np.float32], occluded: NDArray[np.bool_]) -> LabelMap:
    """Move the earlier labels along the flow; 255 where it leads to no label."""
    height, width = before.shape
    ys, xs = np.indices((height, width))
    from_y = np.clip(np.rint(ys + flow[..., 1]).astype(int), 0, height - 1)
    from_x = np.clip(np.rint(xs + flow[..., 0]).astype(int), 0, width - 1)
    moved: LabelMap = before[from_y, from_x]
    moved[occluded] = NOT_SCORED
    return moved
