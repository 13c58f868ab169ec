"""Text on pictures: captions, legends and the colours beside them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dff_edge.errors import ConfigError
from dff_edge.frames import Image
from dff_edge.opencv import cv2

Colours = Sequence[Sequence[int]]  # (red, green, blue) of each class, 0..255

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_FONT_PX = 22.0  # height of its capitals at scale 1
_WHITE = (255, 255, 255)
_PANEL_SHADE = 0.35  # factor on the picture's brightness behind text


def palette_of(colours: Colours) -> NDArray[np.uint8]:
    """Return the colours as a table of all 256 indices, in BGR order.

    Raises:
        ConfigError: a colour is out of range, or there are not 1 to 256 colours.
    """
    table = np.zeros((256, 3), np.uint8)
    rgb = np.asarray(colours)
    if rgb.ndim != 2 or rgb.shape[1] != 3 or not 1 <= len(rgb) <= 256:
        raise ConfigError(
            f"colours have shape {rgb.shape}, expected a (red, green, blue) for each of 1..256 "
            "classes."
        )
    if rgb.min() < 0 or rgb.max() > 255:
        raise ConfigError(f"colours reach from {rgb.min()} to {rgb.max()}, expected 0..255.")
    table[: len(rgb)] = rgb[:, ::-1]
    return table


def draw_caption(image: Image, caption: str, text_px: float) -> tuple[int, int]:
    """Write a caption top left, if it fits.

    Returns:
        Height and width of the caption in pixels.
    """
    width = text_width_px(caption, text_px)
    pad = round(text_px * 0.6)
    panel_height, panel_width = round(text_px + 2 * pad), width + 2 * pad
    if panel_width > image.shape[1] or panel_height > image.shape[0] // 4:
        return 0, 0
    _shade(image[:panel_height, :panel_width])
    write(image, caption, (pad, round(pad + text_px)), text_px)
    return panel_height, panel_width


def draw_legend(
    image: Image,
    rows: Sequence[tuple[str, NDArray[np.uint8]]],
    text_px: float,
    room_px: int,
) -> None:
    """Draw a swatch and a name for each class, bottom left, where there is room.

    Args:
        image: uint8 ``(H, W, 3)`` BGR, drawn on.
        rows: name and BGR colour of each class.
        text_px: height of capitals.
        room_px: height that is free. Two thirds of it are used; a longer legend gets several
            columns, and is left out if these are wider than two thirds of the image.
    """
    if not rows:
        return
    pad = round(text_px * 0.6)
    line_px = round(text_px * 1.7)
    swatch = round(text_px)
    lines = min(len(rows), (room_px * 2 // 3 - pad) // line_px)
    if lines < 1:
        return
    columns = -(-len(rows) // lines)
    lines = -(-len(rows) // columns)  # all of about the same length
    column_px = max(text_width_px(name, text_px) for name, _ in rows) + swatch + 2 * pad
    height, width = image.shape[:2]
    panel_height, panel_width = line_px * lines + pad, column_px * columns + pad
    if panel_width > width * 2 // 3:
        return
    top = height - panel_height
    _shade(image[top:, :panel_width])
    for row, (name, colour) in enumerate(rows):
        column, line = divmod(row, lines)
        x, y = pad + column * column_px, top + pad + line * line_px
        image[y : y + swatch, x : x + swatch] = colour
        write(image, name, (x + swatch + pad, round(y + text_px)), text_px)


def _shade(region: Image) -> None:
    region[:] = cv2.convertScaleAbs(region, alpha=_PANEL_SHADE)


def text_height_px(image: Image) -> float:
    """Return the height of capitals that is legible on an image of this size.

    9 pixels at 320x240, 14 at 640x480, 24 at 1920x1080: larger pictures are mostly displayed
    larger, but not in proportion.
    """
    return float(9.0 * max(1.0, min(image.shape[:2]) / 240) ** 0.65)


def text_width_px(text: str, text_px: float) -> int:
    """Return the width of a text of that height in pixels."""
    return int(cv2.getTextSize(text, _FONT, text_px / _FONT_PX, _thickness(text_px))[0][0])


def write(
    image: Image,
    text: str,
    origin: tuple[int, int],
    text_px: float,
    colour: tuple[int, int, int] = _WHITE,
) -> None:
    """Write a line whose baseline begins at ``origin`` (x, y); the colour is BGR."""
    scale, thickness = text_px / _FONT_PX, _thickness(text_px)
    cv2.putText(image, text, origin, _FONT, scale, colour, thickness, cv2.LINE_AA)


def _thickness(text_px: float) -> int:
    """Return the width of strokes in pixels: OpenCV 4 draws strokes, 5 a bolder letter."""
    return max(1, round(text_px / 14))
