"""A result as a picture: what videos, windows and pages show."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dff_edge.runtime.box_overlay import draw_boxes
from dff_edge.runtime.boxes import in_source_pixels
from dff_edge.runtime.frames import Image, Result
from dff_edge.runtime.lettering import Colours
from dff_edge.runtime.opencv import cv2
from dff_edge.runtime.overlay import draw_overlay
from dff_edge.runtime.sinks.captions import caption_of

SHOWN_SCORE = 0.5  # detections that score less are neither drawn nor written where nobody says


def draw_result(
    result: Result,
    classes: Sequence[str],
    colours: Colours,
    *,
    min_score: float = SHOWN_SCORE,
    legend: bool = True,
    max_side_px: int | None = None,
) -> Image:
    """Draw a result over its frame, with a caption.

    Args:
        result: of segmentation or detection.
        classes: names of the classes.
        colours: ``(red, green, blue)`` of each class.
        min_score: detections that score less are left out.
        legend: whether a label map gets one; boxes bear their names.
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
        shown = in_source_pixels(found.above(min_score), (height, width), size)
        return draw_boxes(image, shown, colours, classes, caption=caption)
    if scale < 1:
        nearest = cv2.resize(labels, size[::-1], interpolation=cv2.INTER_NEAREST)
        labels = np.asarray(nearest, np.uint8)
    names = classes if legend else None
    return draw_overlay(image, labels, colours, caption=caption, legend=names)
