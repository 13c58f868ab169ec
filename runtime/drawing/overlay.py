"""Class colours drawn over a frame, with a caption and a legend."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from dff_edge.errors import ConfigError, ShapeError
from dff_edge.frames import Image, LabelMap
from dff_edge.opencv import cv2
from dff_edge.runtime.drawing.text import (
    Colours,
    draw_caption,
    draw_legend,
    palette_of,
    text_height_px,
)


def draw_overlay(
    image: Image,
    labels: LabelMap,
    colours: Colours,
    *,
    alpha: float = 0.5,
    caption: str | None = None,
    legend: Sequence[str] | None = None,
    shown: Collection[int] | None = None,
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
        shown: classes that are drawn, by index; pixels of other classes keep the picture. None
            for all.

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
    palette = palette_of(colours)
    painted = cv2.LUT(cv2.cvtColor(labels, cv2.COLOR_GRAY2BGR), palette[None])
    blended = np.asarray(cv2.addWeighted(image, 1.0 - alpha, painted, alpha, 0.0), np.uint8)
    if shown is not None or int(labels.max(initial=0)) >= len(colours):
        is_drawn = np.zeros(256, np.bool_)
        is_drawn[: len(colours)] = True
        if shown is not None:
            is_drawn &= np.isin(np.arange(256), list(shown))
        np.copyto(blended, image, where=~is_drawn[labels][:, :, None])

    text_px = text_height_px(blended)
    used_px = draw_caption(blended, caption, text_px)[0] if caption else 0
    if legend:
        rows = [
            (name, palette[index])
            for index, name in enumerate(legend)
            if shown is None or index in shown
        ]
        draw_legend(blended, rows, text_px, blended.shape[0] - used_px)
    return blended
