"""A result as a picture: what videos, windows and pages show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dff_edge.boxes import Detections, in_source_pixels
from dff_edge.frames import Image, Result
from dff_edge.opencv import cv2
from dff_edge.runtime.drawing.boxes import draw_boxes
from dff_edge.runtime.drawing.overlay import draw_overlay
from dff_edge.runtime.drawing.text import Colours

SHOWN_SCORE = 0.5  # detections that score less are neither drawn nor written where nobody says


@dataclass(frozen=True, slots=True)
class Style:
    """How results are drawn.

    Attributes:
        legend: whether a label map gets one; boxes bear their names.
        opacity: of class colours over the picture, 0..1.
        min_score: detections that score less are left out.
        shown: indices of the classes that are drawn; None for all.
    """

    legend: bool = True
    opacity: float = 0.5
    min_score: float = SHOWN_SCORE
    shown: frozenset[int] | None = None


DEFAULT_STYLE = Style()


def draw_result(
    result: Result,
    classes: Sequence[str],
    colours: Colours,
    style: Style = DEFAULT_STYLE,
    *,
    max_side_px: int | None = None,
) -> Image:
    """Draw a result over its frame, with a caption.

    Args:
        result: of segmentation or detection.
        classes: names of the classes.
        colours: ``(red, green, blue)`` of each class.
        style: what is drawn of it, and how.
        max_side_px: what is larger is drawn smaller.
    """
    image, labels, found = result.frame.image, result.labels, result.detections
    height, width = size = image.shape[:2]
    scale = 1.0 if max_side_px is None else min(1.0, max_side_px / max(height, width))
    if scale < 1:
        size = (max(1, round(height * scale)), max(1, round(width * scale)))
        image = np.asarray(cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA), np.uint8)
    caption = caption_of(result)
    if labels is None:
        assert found is not None  # a result has one or the other
        found = _of_classes(found.above(style.min_score), style.shown)
        shown = in_source_pixels(found, (height, width), size)
        return draw_boxes(image, shown, colours, classes, caption=caption)
    if scale < 1:
        nearest = cv2.resize(labels, size[::-1], interpolation=cv2.INTER_NEAREST)
        labels = np.asarray(nearest, np.uint8)
    return draw_overlay(
        image,
        labels,
        colours,
        alpha=style.opacity,
        caption=caption,
        legend=classes if style.legend else None,
        shown=style.shown,
    )


def caption_of(result: Result) -> str:
    """Return the line that says which frame it is and how old the features are that answered it.

    For example ``frame 12, key frame``, or ``frame 15, features 3 frames old``.
    """
    if result.is_key:
        return f"frame {result.frame.index}, key frame"
    unit = "frame" if result.key_distance == 1 else "frames"
    return f"frame {result.frame.index}, features {result.key_distance} {unit} old"


def _of_classes(found: Detections, shown: frozenset[int] | None) -> Detections:
    if shown is None:
        return found
    kept = np.isin(found.labels, sorted(shown))
    return Detections(found.boxes[kept], found.scores[kept], found.labels[kept])
