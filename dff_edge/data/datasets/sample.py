"""A sample of labelled frames, to check data before a day of work is put into it.

``take_sample`` opens frames and counts; ``findings`` interprets the counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dff_edge.bundle.tasks import FORMATS, TaskName
from dff_edge.data.datasets.continuity import Continuity
from dff_edge.data.datasets.files_clip import FilesClip
from dff_edge.data.datasets.label_png import NOT_SCORED
from dff_edge.data.datasets.labelled_clip import LabelledClip
from dff_edge.data.datasets.truth import FittedBoxes, true_boxes, true_labels
from dff_edge.errors import DffEdgeError, FrameError, SourceError
from dff_edge.frames import LabelMap

SAMPLE = 50  # number of labelled frames that are opened, evenly spread


@dataclass
class Sample:
    """Contents of labelled frames.

    Attributes:
        labelled: number of frames with labels or boxes.
        alone: of them, those with no frame before: no pair (k, i) with i > k ends there.
        opened: of them, those that were opened and are valid.
        frames_with: number of opened frames with each class, by its number.
        pixels: int64 ``(256,)``, pixels of label maps by label.
        shows_classes: False where all label maps together, opened or not, hold at most one class,
            beside pixels that are not scored.
        boxes: in opened frames, those that are kept, ignored ones included.
        ignored: of them, those that count neither way (crowds).
        clipped, outside, flat: as in ``FittedBoxes``.
        frame_size: ``(H, W)`` of the first opened frame, None where none was opened.
        box_sizes: float32 ``(n, 2)``, width and height of the boxes as shares of the frame.
        turned: frames with an EXIF rotation or mirroring; their pixels are used as stored.
        continuity: of opened frames and those before them.
        damaged: faults of the frames that cannot be used, a line each.
    """

    labelled: int = 0
    alone: int = 0
    opened: int = 0
    frames_with: Counter[int] = field(default_factory=Counter)
    pixels: NDArray[np.int64] = field(default_factory=lambda: np.zeros(256, np.int64))
    shows_classes: bool = True
    boxes: int = 0
    ignored: int = 0
    clipped: int = 0
    outside: int = 0
    flat: int = 0
    frame_size: tuple[int, int] | None = None
    box_sizes: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 2), np.float32))
    turned: list[str] = field(default_factory=list)
    continuity: Continuity = field(default_factory=Continuity)
    damaged: list[str] = field(default_factory=list)


def take_sample(
    clips: Sequence[LabelledClip],
    task: TaskName,
    class_count: int | None,
    *,
    most: int | None = SAMPLE,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Sample:
    """Open labelled frames, and the frames before them.

    Args:
        clips: the clips of the frames.
        task: whether label maps or boxes are read.
        class_count: K, None where it is not known: then any label counts.
        most: maximum number, evenly spread; None for all.
        progress: called with (frames opened, frames to open).
    """
    labelled = [(clip, i) for clip in clips for i in range(len(clip)) if clip.is_labelled(i)]
    sample = Sample(labelled=len(labelled), alone=sum(index == 0 for _, index in labelled))
    chosen = _spread(len(labelled), most)
    sizes: list[NDArray[np.float32]] = []
    for done, number in enumerate(chosen, 1):
        clip, index = labelled[number]
        try:
            sizes += _open(clip, index, task, class_count, sample)
            sample.opened += 1
        except DffEdgeError as error:
            sample.damaged.append(str(error))
        progress(done, len(chosen))
    if sizes:
        sample.box_sizes = np.concatenate(sizes)
    if sample.opened:
        sample.shows_classes = _shows_classes(sample.pixels) or _find_class(labelled, sample.pixels)
    return sample


def _open(
    clip: LabelledClip, index: int, task: TaskName, class_count: int | None, sample: Sample
) -> list[NDArray[np.float32]]:
    """Count a frame's labels or boxes; return the sizes of its boxes."""
    image = clip.image(index)
    size = (image.shape[0], image.shape[1])
    sample.frame_size = sample.frame_size or size
    before = clip.image(index - 1) if index else None
    if before is not None and before.shape != image.shape:
        raise FrameError(
            f"clip '{clip.name}': frame {index - 1} has {before.shape[1]} x {before.shape[0]} "
            f"pixels and frame {index} {size[1]} x {size[0]}, expected one size."
        )
    if FORMATS.find(task).truth == "boxes":
        fitted = true_boxes(clip, index, size, class_count)
        sizes = [] if fitted is None else [_count_boxes(fitted, size, sample)]
    else:
        sizes = []
        labels = true_labels(clip, index, size, class_count)
        if labels is not None:
            _count_labels(labels, sample)
    if isinstance(clip, FilesClip) and clip.is_turned(index):
        sample.turned.append(str(clip.image_path(index)))
    if before is not None:
        sample.continuity.add(clip.name, index, before, image)
    return sizes


def _count_labels(labels: LabelMap, sample: Sample) -> None:
    counts = np.bincount(labels.ravel(), minlength=256)
    sample.pixels += counts
    sample.frames_with.update(int(label) for label in np.flatnonzero(counts[:NOT_SCORED]))


def _count_boxes(fitted: FittedBoxes, size: tuple[int, int], sample: Sample) -> NDArray[np.float32]:
    boxes = fitted.boxes
    sample.boxes += len(boxes)
    sample.ignored += int(boxes.ignored.sum())
    sample.clipped += fitted.clipped
    sample.outside += fitted.outside
    sample.flat += fitted.flat
    sample.frames_with.update({int(label) for label in boxes.labels})
    sides = (boxes.boxes[:, 2:] - boxes.boxes[:, :2])[~boxes.ignored]
    return np.asarray(sides / np.array([size[1], size[0]], np.float32), np.float32)


def _shows_classes(pixels: NDArray[np.int64]) -> bool:
    """Return whether label maps, where there are some, hold two classes, or one and 255."""
    classes = int(np.count_nonzero(pixels[:NOT_SCORED]))
    return classes > 1 or not pixels[NOT_SCORED]


def _find_class(labelled: Sequence[tuple[LabelledClip, int]], pixels: NDArray[np.int64]) -> bool:
    """Search all labels for a second class, which the sample may have missed."""
    seen = set(np.flatnonzero(pixels[:NOT_SCORED]).tolist())
    for clip, index in labelled:
        try:
            labels = clip.labels(index)
        except SourceError:
            continue
        if labels is not None:
            seen |= set(np.unique(labels).tolist()) - {NOT_SCORED}
        if len(seen) > 1:
            return True
    return False


def _spread(count: int, most: int | None) -> list[int]:
    """Return at most ``most`` of ``count`` numbers, evenly spread."""
    if most is None or count <= most:
        return list(range(count))
    return [int((n + 0.5) * count / most) for n in range(most)]
