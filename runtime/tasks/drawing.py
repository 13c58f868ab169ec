"""A result drawn as a picture, for videos, windows and pages."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dff_edge.frames import Image, Result
from dff_edge.opencv import cv2
from dff_edge.runtime.drawing.style import DEFAULT_STYLE, Style
from dff_edge.runtime.drawing.text import Colours
from dff_edge.runtime.tasks import RUNTIME_TASKS


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
        result: of any task.
        classes: names of the classes.
        colours: ``(red, green, blue)`` of each class.
        style: which parts are drawn, and how.
        max_side_px: larger frames are scaled down to this side.
    """
    image = result.frame.image
    height, width = image.shape[:2]
    scale = 1.0 if max_side_px is None else min(1.0, max_side_px / max(height, width))
    if scale < 1:
        smaller = (max(1, round(width * scale)), max(1, round(height * scale)))
        image = np.asarray(cv2.resize(image, smaller, interpolation=cv2.INTER_AREA), np.uint8)
    return RUNTIME_TASKS.find(result.task).draw(
        image,
        result.answer,
        classes,
        colours,
        style,
        size=(height, width),
        caption=caption_of(result),
    )


def caption_of(result: Result) -> str:
    """Return a line with the frame's number and the age of the features used for it.

    For example ``frame 12, key frame``, or ``frame 15, features 3 frames old``.
    """
    if result.is_key:
        return f"frame {result.frame.index}, key frame"
    unit = "frame" if result.distance == 1 else "frames"
    return f"frame {result.frame.index}, features {result.distance} {unit} old"
