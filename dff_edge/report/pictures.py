"""Pictures of results: a key frame and frames that are answered from it, with the truth beside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from dff_edge.runtime.evaluation import Recogniser
from dff_edge.runtime.frames import Image, LabelMap
from dff_edge.runtime.overlay import Colours, draw_overlay

_MAX_WIDTH = 640
_ALPHA = 0.6
_JPEG_QUALITY = 84


@dataclass(frozen=True)
class Picture:
    """One frame and its answer.

    Attributes:
        distance: frames since the key frame, i - k.
        frame, answer, truth: JPEG files; the latter two with the classes over the frame. No truth
            where it is not known.
        right: share of the pixels with the true class, None where the truth is not known.
    """

    distance: int
    frame: bytes
    answer: bytes
    truth: bytes | None
    right: float | None


def draw_pictures(
    recogniser: Recogniser,
    images: Sequence[Image],
    truths: Sequence[LabelMap | None],
    colours: Colours,
    distances: Sequence[int] = (0, 1, 4, 9),
) -> list[Picture]:
    """Answer frames from the first one, as key frame, and draw them.

    Args:
        recogniser: what answers.
        images: consecutive frames; the first is the key frame.
        truths: label map of each, None where it is not known.
        colours: ``(red, green, blue)`` of each class.
        distances: which frames; those beyond the end are left out.
    """
    key = recogniser.extract(images[0])
    pictures = []
    for distance in distances:
        if distance >= len(images):
            continue
        image, truth = images[distance], truths[distance]
        labels = recogniser.answer(key, image if distance else None)
        pictures.append(
            Picture(
                distance=distance,
                frame=_jpeg(image),
                answer=_jpeg(draw_overlay(image, labels, colours, alpha=_ALPHA)),
                truth=None
                if truth is None
                else _jpeg(draw_overlay(image, truth, colours, alpha=_ALPHA)),
                right=None if truth is None else _share_right(labels, truth, len(colours)),
            )
        )
    return pictures


def _share_right(labels: LabelMap, truth: LabelMap, class_count: int) -> float | None:
    scored = truth < class_count
    return float(np.mean(labels[scored] == truth[scored])) if scored.any() else None


def _jpeg(image: Image) -> bytes:
    height, width = image.shape[:2]
    if width > _MAX_WIDTH:
        size = (_MAX_WIDTH, max(round(height * _MAX_WIDTH / width), 1))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    done, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    assert done  # OpenCV always holds its JPEG encoder, and frames are checked
    return data.tobytes()
