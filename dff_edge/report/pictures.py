"""Pictures of results: a key frame and frames predicted from it, beside the true labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dff_edge.boxes import Detections, TrueBoxes
from dff_edge.evaluation.box_accuracy import match
from dff_edge.evaluation.evaluate import Predictor
from dff_edge.frames import Image, LabelMap
from dff_edge.opencv import cv2
from dff_edge.runtime.drawing.boxes import draw_boxes
from dff_edge.runtime.drawing.overlay import draw_overlay
from dff_edge.runtime.drawing.text import Colours
from dff_edge.runtime.sinks import SHOWN_SCORE

_MAX_WIDTH = 640
_ALPHA = 0.6
_JPEG_QUALITY = 84


@dataclass(frozen=True)
class Picture:
    """One frame and its result.

    Attributes:
        distance: frames since the key frame, i - k.
        frame, answer, truth: JPEG files; the latter two with the classes over the frame. No truth
            where it is not known.
        right: share of the pixels with the true class, or of the objects that were matched; None
            where the truth is not known.
        measure: which of the two, for people.
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
    truths: Sequence[LabelMap | TrueBoxes | None],
    colours: Colours,
    distances: Sequence[int] = (0, 1, 4, 9),
    names: Sequence[str] = (),
) -> list[Picture]:
    """Predict frames from the first one, as key frame, and draw them.

    Args:
        predictor: the model.
        images: consecutive frames; the first is the key frame.
        truths: label map or boxes of each, by the model's task; None where not known.
        colours: ``(red, green, blue)`` of each class.
        distances: distances of the frames to draw; those beyond the end are left out.
        names: of the classes, for boxes.
    """
    key = predictor.extract(images[0])
    pictures = []
    for distance in distances:
        if distance >= len(images):
            continue
        image, truth = images[distance], truths[distance]
        answer = predictor.predict(key, image if distance else None)
        if isinstance(answer, Detections):
            answer = answer.above(SHOWN_SCORE)
        right = None
        if isinstance(answer, Detections) and isinstance(truth, TrueBoxes):
            right = _share_found(answer, truth, len(colours))
        elif isinstance(answer, np.ndarray) and isinstance(truth, np.ndarray):
            right = _share_right(answer, truth, len(colours))
        pictures.append(
            Picture(
                distance=distance,
                frame=_jpeg(image),
                answer=_draw(image, answer, colours, names),
                truth=None if truth is None else _draw(image, truth, colours, names),
                right=right,
                measure="of the pixels right"
                if isinstance(answer, np.ndarray)
                else "of the objects found",
            )
        )
    return pictures


def _draw(
    image: Image,
    shown: LabelMap | Detections | TrueBoxes,
    colours: Colours,
    names: Sequence[str],
) -> bytes:
    if isinstance(shown, np.ndarray):
        return _jpeg(draw_overlay(image, shown, colours, alpha=_ALPHA))
    return _jpeg(draw_boxes(image, shown, colours, names))


def _share_found(found: Detections, truth: TrueBoxes, class_count: int) -> float | None:
    matches = match(found, truth, class_count)
    wanted = int(matches.truths.sum())
    return float(matches.right.sum() / wanted) if wanted else None


def _share_right(labels: LabelMap, truth: LabelMap, class_count: int) -> float | None:
    scored = truth < class_count
    return float(np.mean(labels[scored] == truth[scored])) if scored.any() else None


def _jpeg(image: Image) -> bytes:
    height, width = image.shape[:2]
    if width > _MAX_WIDTH:
        size = (_MAX_WIDTH, max(round(height * _MAX_WIDTH / width), 1))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    done, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    assert done  # OpenCV always has its JPEG encoder, and frames are checked
    return data.tobytes()
