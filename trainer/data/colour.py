"""Changes of brightness, contrast, saturation and hue, alike in both frames of a pair."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dff_edge.frames import Image
from dff_edge.opencv import cv2

_HUE_DEGREES = 30.0  # at most, at strength 1
_MEAN_LEVEL = 128.0  # grey about which contrast is changed
_GREY = np.array([0.114, 0.587, 0.299], np.float32)  # luma of BGR, ITU-R BT.601


def jitter_colours(
    images: Sequence[Image], rng: np.random.Generator, strength: float
) -> list[Image]:
    """Change the colours of all images in the same way.

    Brightness, contrast and saturation are each multiplied by a factor of 1 - strength to
    1 + strength, hue is rotated by up to 30 degrees times the strength. All four are one affine map
    of the colours, so that nothing is rounded or clipped in between.

    Args:
        images: uint8 ``(H, W, 3)`` BGR each.
        rng: random generator.
        strength: 0 (the images are returned unchanged) to 1.
    """
    if strength == 0:
        return list(images)
    brightness, contrast, saturation = rng.uniform(1 - strength, 1 + strength, 3)
    turn = np.deg2rad(rng.uniform(-_HUE_DEGREES, _HUE_DEGREES) * strength)
    # Saturation scales the difference from the grey of the same luma; hue rotates it about grey.
    grey = np.outer(np.ones(3), _GREY)
    axis = np.ones(3) / np.sqrt(3)
    cross = np.cross(np.eye(3), axis)
    turned = np.cos(turn) * np.eye(3) + np.sin(turn) * cross
    turned += (1 - np.cos(turn)) * np.outer(axis, axis)
    colour = grey + saturation * (np.eye(3) - grey) @ turned
    matrix = contrast * brightness * colour
    offset = np.full((3, 1), (1 - contrast) * _MEAN_LEVEL)
    affine = np.hstack([matrix, offset]).astype(np.float32)
    return [_as_image(cv2.transform(np.ascontiguousarray(image), affine)) for image in images]


def _as_image(image: object) -> Image:
    return np.asarray(image, np.uint8)
