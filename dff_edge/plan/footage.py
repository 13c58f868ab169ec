"""Frames to plan with: drawn ones, or those of a source, with labels where it has some.

Where it has none, the full network's answers in fp32 take the place of labels, so that accuracy
becomes agreement with it, by the same measure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dff_edge.boxes import Detections, TrueBoxes
from dff_edge.bundle.reader import Bundle
from dff_edge.bundle.tasks import FORMATS
from dff_edge.data.clips import check_for_model, class_names, open_clips
from dff_edge.data.datasets import LabelledClip, parse_data_name
from dff_edge.detection_matching import SURE_SCORE
from dff_edge.errors import ConfigError, SourceError
from dff_edge.evaluation.bundle_predictor import BundlePredictor
from dff_edge.frames import Image, LabelMap
from dff_edge.hiding import hide_credentials
from dff_edge.opencv import cv2
from dff_edge.runtime.sources import open_source
from dff_edge.synthetic import StreetScene

_TIMED_FRAMES = 16
_READ_FRAMES = 120  # of video without labels: more than the largest distance that is measured
_MAX_BYTES = 1 << 28


@dataclass(frozen=True)
class Footage:
    """Frames of a camera.

    Attributes:
        images: some consecutive ones, at the size of the camera's.
        clips: for accuracy; none where nothing is to be measured.
        truth: "labels", or "the full network in fp32", which the clips' labels come from.
    """

    images: Sequence[Image]
    clips: Sequence[LabelledClip] = ()
    truth: str = "labels"


class TaughtClip:
    """A clip without labels, whose labels are what the full network answers.

    Args:
        name: of the clip.
        images: its frames.
        teacher: answers them; closed by its owner.
        gives_boxes: whether its answers are boxes, else label maps.
    """

    def __init__(
        self, name: str, images: Sequence[Image], teacher: BundlePredictor, *, gives_boxes: bool
    ) -> None:
        self.name = name
        self._images = images
        self._gives_boxes = gives_boxes
        self._answer = lru_cache(maxsize=4)(
            lambda index: teacher.predict(teacher.extract(images[index]), None)
        )

    def __len__(self) -> int:
        return len(self._images)

    def image(self, index: int) -> Image:
        """Return a frame."""
        return self._images[index]

    def is_labelled(self, index: int) -> bool:
        """Return True: every frame can be answered."""
        return True

    def where(self, index: int) -> str:
        """Return the number of a frame."""
        return f"'{self.name}', frame {index}"

    def labels(self, index: int) -> LabelMap | None:
        """Return the full network's label map.

        Raises:
            ConfigError: the task has other answers, which cannot take the place of labels.
        """
        if self._gives_boxes:
            return None
        answer = self._answer(index)
        if not isinstance(answer, np.ndarray) or answer.dtype != np.uint8:
            raise ConfigError(
                f"{self.where(index)} has no labels, and the model's own answers are neither label "
                "maps nor boxes, which could take their place; give labelled data."
            )
        labels: LabelMap = answer
        return labels

    def boxes(self, index: int) -> TrueBoxes | None:
        """Return the objects that the full network is sure of."""
        if not self._gives_boxes:
            return None
        found: Detections = self._answer(index).above(SURE_SCORE)
        height, width = self._images[index].shape[:2]
        unsure = np.zeros(len(found), np.bool_)
        return TrueBoxes(found.boxes, found.labels, unsure, (height, width))

    def flow(self, current: int, key: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]] | None:
        """Return None: true flow is not known."""
        return None


@contextmanager
def open_footage(
    bundle: Bundle, source: str | None, size: tuple[int, int] | None = None
) -> Iterator[Footage]:
    """Open the footage of a source, for a bundle.

    Args:
        bundle: the model.
        source: labelled data by the names of ``open_clips``, or a recording by those of
            ``open_source``; None for drawn frames, by which nothing but time is measured.
        size: H and W of the camera's frames; None for those of the source, or the model.

    Raises:
        ConfigError: the source is live, or has other classes.
        SourceError: it cannot be read, or has no frames.
    """
    with ExitStack() as stack:
        if source is None:
            footage = _drawn(bundle)
        elif not _is_labelled_data(source):
            footage = _taught(stack, bundle, source, [_read(source)])
        else:
            footage = _labelled(stack, bundle, source)
        yield replace(footage, images=_resized(footage.images, size))


def _drawn(bundle: Bundle) -> Footage:
    height, width = bundle.manifest.frame_size
    scene = StreetScene(0, "val", (height, min(width, 8 * height)), _TIMED_FRAMES)
    images = [np.ascontiguousarray(scene.render(n)[0]) for n in range(_TIMED_FRAMES)]
    return Footage(_resized(images, (height, width)))


def _labelled(stack: ExitStack, bundle: Bundle, source: str) -> Footage:
    manifest = bundle.manifest
    clips = open_clips(source)
    if source.startswith("synthetic://"):
        known = class_names(source, manifest.task)
        if known is not None and tuple(known) != tuple(manifest.class_names):
            frames = [[clip.image(n) for n in range(len(clip))] for clip in clips[:2]]
            return _taught(stack, bundle, source, frames)
    check_for_model(clips, source, manifest.task, manifest.class_names, "the bundle")
    return Footage(_first_of(clips), clips)


def _taught(
    stack: ExitStack, bundle: Bundle, source: str, videos: Sequence[Sequence[Image]]
) -> Footage:
    teacher = stack.enter_context(BundlePredictor(bundle, "fp32"))
    name = hide_credentials(source)
    gives_boxes = FORMATS.find(bundle.manifest.task).truth == "boxes"
    clips = [TaughtClip(name, video, teacher, gives_boxes=gives_boxes) for video in videos]
    return Footage(videos[0][:_TIMED_FRAMES], clips, "the full network in fp32")


def _is_labelled_data(source: str) -> bool:
    data = parse_data_name(source)
    if data is None:
        return source.startswith("synthetic://")
    is_folder = "://" not in source
    return not is_folder or (Path(source) / "labels").is_dir()


def _first_of(clips: Sequence[LabelledClip]) -> list[Image]:
    longest = max(clips, key=len)
    return [longest.image(index) for index in range(min(len(longest), _TIMED_FRAMES))]


def _read(source: str) -> list[Image]:
    """Return the first frames of a recording, as many as fit in a bounded memory."""
    images: list[Image] = []
    with open_source(source) as frames:
        if frames.live:
            raise ConfigError(
                f"{frames.uri} is live, and cannot be measured on twice. Record some seconds of "
                "it, or leave --source out and name the size of its frames."
            )
        for frame in islice(frames, _READ_FRAMES):
            if images and images[0].shape != frame.image.shape:
                break
            images.append(frame.image)
            if images[0].nbytes * (len(images) + 1) > _MAX_BYTES:
                break
        if not images:
            raise SourceError(f"{frames.uri} has no frame that can be read.")
    return images


def _resized(images: Sequence[Image], size: tuple[int, int] | None) -> list[Image]:
    if size is None or all(image.shape[:2] == size for image in images):
        return list(images)
    return [np.asarray(cv2.resize(image, size[::-1]), np.uint8) for image in images]
