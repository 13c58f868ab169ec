"""Text on pictures: captions, legends and the colours beside them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dff_edge.runtime.errors import ConfigError
from dff_edge.runtime.frames import Image
from dff_edge.runtime.opencv import cv2

Colours = Sequence[Sequence[int]]  # (red, green, blue) of each class, 0..255

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_FONT_PX = 22.0  # height of its capitals at scale 1
_WHITE = (255, 255, 255)
_PANEL_SHADE = 0.35  # what is left of the picture's brightness behind text


def palette_of(colours: Colours) -> NDArray[np.uint8]:
    """The colours as a table of all 256 indices, in BGR order.

    Raises:
        ConfigError: a colour is out of range, or they are none for 1..256 classes.
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


def draw_caption(image: Image, caption: str, text_px: float) -> int:
    """Write a caption top left, unless it does not fit; gives the height that it took."""
    width = text_width_px(caption, text_px)
    pad = round(text_px * 0.6)
    panel_height, panel_width = round(text_px + 2 * pad), width + 2 * pad
    if panel_width > image.shape[1] or panel_height > image.shape[0] // 4:
        return 0
    _shade(image[:panel_height, :panel_width])
    write(image, caption, (pad, round(pad + text_px)), text_px)
    return panel_height


def draw_legend(
    image: Image,
    names: Sequence[str],
    palette: NDArray[np.uint8],
    text_px: float,
    room_px: int,
) -> None:
    """A swatch and a name for each class, bottom left, if two thirds of the room hold them."""
    pad = round(text_px * 0.6)
    line_px = round(text_px * 1.7)
    swatch = round(text_px)
    widest = max(text_width_px(name, text_px) for name in names)
    panel_height, panel_width = line_px * len(names) + pad, widest + swatch + 3 * pad
    height, width = image.shape[:2]
    if panel_height > room_px * 2 // 3 or panel_width > width // 2:
        return
    top = height - panel_height
    _shade(image[top:, :panel_width])
    for row, name in enumerate(names):
        y = top + pad + row * line_px
        image[y : y + swatch, pad : pad + swatch] = palette[row]
        write(image, name, (2 * pad + swatch, round(y + text_px)), text_px)


def _shade(region: Image) -> None:
    region[:] = cv2.convertScaleAbs(region, alpha=_PANEL_SHADE)


def text_height_px(image: Image) -> float:
    """Height of capitals that are read well on an image of this size."""
    return float(max(9.0, min(image.shape[:2]) / 30.0))


def text_width_px(text: str, text_px: float) -> int:
    """How wide a text of that height is."""
    return int(cv2.getTextSize(text, _FONT, text_px / _FONT_PX, 1)[0][0])


def write(
    image: Image,
    text: str,
    origin: tuple[int, int],
    text_px: float,
    colour: tuple[int, int, int] = _WHITE,
) -> None:
    """Write a line whose baseline begins at ``origin`` (x, y); the colour is BGR."""
    scale = text_px / _FONT_PX
    thickness = 1 if scale < 0.9 else round(scale * 1.6)
    cv2.putText(image, text, origin, _FONT, scale, colour, thickness, cv2.LINE_AA)
