"""Class colours drawn over a frame, with a caption and a legend: what people look at."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from dff_edge.runtime.errors import ConfigError, ShapeError
from dff_edge.runtime.frames import Image, LabelMap

Colours = Sequence[Sequence[int]]  # (red, green, blue) of each class, 0..255

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_FONT_PX = 22.0  # height of its capitals at scale 1
_WHITE = (255, 255, 255)
_PANEL_SHADE = 0.35  # what is left of the picture's brightness behind text


def draw_overlay(
    image: Image,
    labels: LabelMap,
    colours: Colours,
    *,
    alpha: float = 0.5,
    caption: str | None = None,
    legend: Sequence[str] | None = None,
) -> Image:
    """Blend the colour of each pixel's class over the image.

    Args:
        image: uint8 ``(H, W, 3)`` BGR; not changed.
        labels: uint8 ``(H, W)`` class index; an index without a colour (255: not labelled) leaves
            the picture as it is.
        colours: ``(red, green, blue)`` of each class.
        alpha: share of the class colour, 0..1.
        caption: one line for the top left corner.
        legend: names of the classes, drawn bottom left.

    Returns:
        A new uint8 ``(H, W, 3)`` BGR image. Caption and legend are left out where they do not fit.

    Raises:
        ShapeError: labels are not of the image's size or not uint8.
        ConfigError: alpha or a colour is out of range.
    """
    if labels.shape != image.shape[:2] or labels.dtype != np.uint8:
        raise ShapeError(
            f"labels are {labels.dtype} {labels.shape}, expected uint8 {image.shape[:2]}, the "
            "size of the image. Results of a pipeline are of that size."
        )
    if not 0 <= alpha <= 1:
        raise ConfigError(
            f"alpha is {alpha}, expected 0 (only the picture) to 1 (only the classes)."
        )
    palette = _palette(colours)
    painted = cv2.LUT(cv2.cvtColor(labels, cv2.COLOR_GRAY2BGR), palette[None])
    blended = np.asarray(cv2.addWeighted(image, 1.0 - alpha, painted, alpha, 0.0), np.uint8)
    if int(labels.max(initial=0)) >= len(colours):
        np.copyto(blended, image, where=(labels >= len(colours))[:, :, None])

    text_px = max(9.0, min(blended.shape[:2]) / 30.0)
    used_px = _draw_caption(blended, caption, text_px) if caption else 0
    if legend:
        _draw_legend(blended, legend, palette, text_px * 0.8, blended.shape[0] - used_px)
    return blended


def _palette(colours: Colours) -> NDArray[np.uint8]:
    """The colours as a table of all 256 indices, in BGR order."""
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


def _draw_caption(image: Image, caption: str, text_px: float) -> int:
    """Write the caption top left; gives the height that it took."""
    scale = text_px / _FONT_PX
    width = cv2.getTextSize(caption, _FONT, scale, 1)[0][0]
    pad = round(text_px * 0.6)
    panel_height, panel_width = round(text_px + 2 * pad), width + 2 * pad
    if panel_width > image.shape[1] or panel_height > image.shape[0] // 4:
        return 0
    _shade(image[:panel_height, :panel_width])
    _write(image, caption, (pad, round(pad + text_px)), scale)
    return panel_height


def _draw_legend(
    image: Image,
    names: Sequence[str],
    palette: NDArray[np.uint8],
    text_px: float,
    room_px: int,
) -> None:
    """A swatch and a name for each class, bottom left, if two thirds of the room hold them."""
    scale = text_px / _FONT_PX
    pad = round(text_px * 0.6)
    line_px = round(text_px * 1.7)
    swatch = round(text_px)
    widest = max(cv2.getTextSize(name, _FONT, scale, 1)[0][0] for name in names)
    panel_height, panel_width = line_px * len(names) + pad, widest + swatch + 3 * pad
    height, width = image.shape[:2]
    if panel_height > room_px * 2 // 3 or panel_width > width // 2:
        return
    top = height - panel_height
    _shade(image[top:, :panel_width])
    for row, name in enumerate(names):
        y = top + pad + row * line_px
        image[y : y + swatch, pad : pad + swatch] = palette[row]
        _write(image, name, (2 * pad + swatch, round(y + text_px)), scale)


def _shade(region: Image) -> None:
    region[:] = cv2.convertScaleAbs(region, alpha=_PANEL_SHADE)


def _write(image: Image, text: str, origin: tuple[int, int], scale: float) -> None:
    thickness = 1 if scale < 0.9 else round(scale * 1.6)
    cv2.putText(image, text, origin, _FONT, scale, _WHITE, thickness, cv2.LINE_AA)
