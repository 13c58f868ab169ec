"""The base of pairs from labelled clips and from single labelled pictures."""

from __future__ import annotations

from collections.abc import Sequence

from dff_edge.bundle.tasks import FORMATS, TaskName
from dff_edge.data.datasets import LabelledClip
from dff_edge.data.datasets.truth import true_boxes, true_labels
from dff_edge.errors import ConfigError, SourceError
from dff_edge.frames import Image
from dff_edge.trainer.config import AugmentConfig
from dff_edge.trainer.data.pairs import PairData, Truth


class LabelledPairs(PairData):
    """Pairs whose current frame is a labelled one.

    Args:
        clips: labelled frames.
        seed: selects the stream of pairs.
        frame_size: H and W.
        class_count: K.
        length: number of items.
        group: pairs in an item, each from any frame.
        max_distance: largest i - k.
        augment: random changes of pairs.
        task: whether pairs come with labels or with boxes.

    Raises:
        ConfigError: when no frame is labelled.
    """

    def __init__(
        self,
        clips: Sequence[LabelledClip],
        *,
        seed: int,
        frame_size: tuple[int, int],
        class_count: int,
        length: int,
        group: int,
        max_distance: int,
        augment: AugmentConfig,
        task: TaskName = "segmentation",
    ) -> None:
        self.clips, self.seed, self.frame_size = clips, seed, frame_size
        self.class_count, self.length = class_count, length
        self.group, self.max_distance, self.augment = group, max_distance, augment
        self.task = task
        self.labelled = self._current_frames()

    def _current_frames(self) -> list[tuple[int, int]]:
        return labelled_frames(self.clips)


def labelled_frames(clips: Sequence[LabelledClip]) -> list[tuple[int, int]]:
    """List the labelled frames as (number of the clip, index in it).

    Raises:
        ConfigError: there is none.
    """
    labelled = [
        (number, index)
        for number, clip in enumerate(clips)
        for index in range(len(clip))
        if clip.is_labelled(index)
    ]
    if not labelled:
        raise ConfigError(
            "the training data has no labelled frame: in a folder, labels/ holds no PNG of a "
            "frame's stem. `dff-edge data check` lists its contents."
        )
    return labelled


def read_frame(
    clip: LabelledClip, index: int, class_count: int, task: TaskName
) -> tuple[Image, Truth]:
    """Return a labelled frame with its labels or boxes.

    Raises:
        SourceError: the labels do not fit the frame, or are of no class (``datasets/truth``), or
            the data is of another task.
    """
    image = clip.image(index)
    size = (image.shape[0], image.shape[1])
    if FORMATS.find(task).truth == "boxes":
        fitted = true_boxes(clip, index, size, class_count)
        if fitted is None:
            raise SourceError(
                f"clip '{clip.name}' has label maps and no boxes, expected boxes: the model's "
                f"task is {task}."
            )
        return image, Truth(boxes=fitted.boxes)
    labels = true_labels(clip, index, size, class_count)
    if labels is None:
        raise SourceError(
            f"clip '{clip.name}' has boxes and no label maps, expected label maps: the model's "
            f"task is {task}."
        )
    return image, Truth(labels)
