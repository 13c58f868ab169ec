"""Pictures of results: a key frame and frames predicted from it, beside the true labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dff_edge.bundle.tasks import TaskName
from dff_edge.evaluation.evaluate import Predictor
from dff_edge.evaluation.tasks import MEASURED_TASKS
from dff_edge.frames import Image
from dff_edge.opencv import cv2
from dff_edge.runtime.drawing.style import Style
from dff_edge.runtime.drawing.text import Colours
from dff_edge.runtime.tasks import RUNTIME_TASKS

_MAX_WIDTH = 640
_STYLE = Style(legend=False, opacity=0.6)
_JPEG_QUALITY = 84


@dataclass(frozen=True)
class Picture:
    """One frame and its result.

    Attributes:
        distance: frames since the key frame, i - k.
        frame, answer, truth: JPEG files; the latter two drawn over the frame. No truth where it
            is not known.
        right: ``MeasuredTask.share_right``; None where the truth is not known.
        measure: the things that ``right`` is a share of, for people.
    """

    distance: int
    frame: bytes
    answer: bytes
    truth: bytes | None
    right: float | None
    measure: str


def draw_pictures(
    predictor: Predictor,
    images: Sequence[Image],
    truths: Sequence[Any],
    colours: Colours,
    distances: Sequence[int] = (0, 1, 4, 9),
    *,
    task: TaskName,
    names: Sequence[str],
    min_score: float | None = None,
) -> list[Picture]:
    """Predict frames from the first one, as key frame, and draw them.

    Args:
        predictor: the model.
        images: uint8 ``(H, W, 3)`` BGR, consecutive frames; the first is the key frame.
        truths: of each image its truth, as of ``Tally.truth``; None where it is not known.
        colours: ``(red, green, blue)`` of each class.
        distances: distances of the frames to draw; those beyond the end are left out.
        task: of the model.
        names: of the classes.
        min_score: detections that score less are neither drawn nor counted, as of ``Style``; a
            bundle's is ``Style().of_bundle(manifest).min_score``.
    """
    style = replace(_STYLE, min_score=min_score)
    drawn, measured = RUNTIME_TASKS.find(task), MEASURED_TASKS.find(task)
    key = predictor.extract(images[0])
    pictures = []
    for distance in distances:
        if distance >= len(images):
            continue
        image, truth = images[distance], truths[distance]
        answer = predictor.predict(key, image if distance else None)
        over = drawn.draw(image, answer, names, colours, style, size=image.shape[:2])
        pictures.append(
            Picture(
                distance=distance,
                frame=_jpeg(image),
                answer=_jpeg(over),
                truth=None
                if truth is None
                else _jpeg(measured.draw_truth(image, truth, names, colours, style)),
                right=None
                if truth is None
                else measured.share_right(answer, truth, len(names), style),
                measure=measured.share,
            )
        )
    return pictures


def _jpeg(image: Image) -> bytes:
    height, width = image.shape[:2]
    if width > _MAX_WIDTH:
        size = (_MAX_WIDTH, max(round(height * _MAX_WIDTH / width), 1))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    done, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    assert done  # OpenCV always has its JPEG encoder, and frames are checked
    return data.tobytes()
