"""Boxes drawn over a frame, with the names of their classes and their scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dff_edge.boxes import Detections, TrueBoxes
from dff_edge.errors import ConfigError
from dff_edge.frames import Image
from dff_edge.opencv import cv2
from dff_edge.runtime.drawing.text import (
    Colours,
    draw_caption,
    palette_of,
    text_height_px,
    text_width_px,
    write,
)

_BLACK, _WHITE = (0, 0, 0), (255, 255, 255)
_LUMA = np.array([0.114, 0.587, 0.299])  # of BGR
_BRIGHT = 140  # on backgrounds of this brightness and above, text is black
_NAME_PX = 0.8  # height of names, by that of the caption


def draw_boxes(
    image: Image,
    found: Detections | TrueBoxes,
    colours: Colours,
    names: Sequence[str],
    *,
    caption: str | None = None,
) -> Image:
    """Draw boxes in the colours of their classes.

    Args:
        image: uint8 ``(H, W, 3)`` BGR; not changed.
        found: boxes in pixels of the image; those of highest score are drawn on top. Detections are
            drawn with their scores; true boxes are drawn thin where they are ignored.
        colours: ``(red, green, blue)`` of each class.
        names: of the classes.
        caption: one line for the top left corner.

    Returns:
        A new uint8 ``(H, W, 3)`` BGR image. A name is left out if it is wider or higher than the
        image, and the caption if it does not fit.

    Raises:
        ConfigError: a box is of a class without a name or a colour, or a colour is out of range.
    """
    palette = palette_of(colours)
    known = min(len(names), len(colours))
    if len(found) and not 0 <= int(found.labels.min()) <= int(found.labels.max()) < known:
        raise ConfigError(
            f"boxes are of the classes {sorted({int(label) for label in found.labels})}, expected "
            f"0 to {known - 1}: those with a name and a colour."
        )
    drawn: Image = image.copy()
    text_px = text_height_px(drawn)
    thick = max(2, round(text_px / 6))
    order = list(reversed(range(len(found))))
    inks = [tuple(int(value) for value in palette[label]) for label in found.labels]
    corners = [[round(float(side)) for side in box] for box in found.boxes]
    for index in order:
        left, top, right, bottom = corners[index]
        is_ignored = isinstance(found, TrueBoxes) and found.ignored[index]
        # Maxima are exclusive, those of OpenCV are not.
        ends = (left, top), (right - 1, bottom - 1)
        cv2.rectangle(drawn, *ends, inks[index], 1 if is_ignored else thick)
    used = draw_caption(drawn, caption, text_px) if caption else (0, 0)
    for index in order:
        text = names[int(found.labels[index])]
        if isinstance(found, Detections):
            text += f" {found.scores[index]:.2f}"
        _draw_name(drawn, text, corners[index][:2], text_px * _NAME_PX, inks[index], used)
    return drawn


def _draw_name(
    image: Image,
    text: str,
    corner: Sequence[int],
    text_px: float,
    colour: tuple[int, ...],
    used: tuple[int, int],
) -> None:
    """Draw a name on its class's colour above the box, or in it where there is no room above.

    Args:
        image: the image to draw on.
        text: the name.
        corner: of the box, (x, y) of its top left.
        text_px: height of capitals.
        colour: of the class, BGR.
        used: height and width of the top left corner that the caption occupies.
    """
    pad = max(1, round(text_px * 0.25))
    width, height = text_width_px(text, text_px) + 2 * pad, round(text_px) + 2 * pad
    if width > image.shape[1] or height >= image.shape[0]:
        return
    x = min(max(corner[0], 0), image.shape[1] - width)
    y = corner[1] - height if corner[1] >= height else max(corner[1], 0)
    if x < used[1]:
        y = max(y, used[0])
    y = min(y, image.shape[0] - height)
    image[y : y + height, x : x + width] = colour
    ink = _BLACK if float(_LUMA @ np.array(colour)) >= _BRIGHT else _WHITE
    write(image, text, (x + pad, y + pad + round(text_px)), text_px, ink)
