"""A surface: one textured part of a synthetic scene, its motion and its exact inverse.

The map from texture to screen is an affine matrix after a horizontal sway of each texture row.
Both invert in closed form, so the flow between any two frames is exact.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dff_edge.opencv import cv2
from dff_edge.synthetic.motion import Matrix, Oscillation, invert

Points = NDArray[np.float64]  # (..., 2) as x, y


@dataclass(frozen=True)
class Sway:
    """Rows of a texture move sideways: ``x += swing(t) * profile[row]``."""

    swing: Oscillation  # px of the texture
    profile: NDArray[np.float64]  # (rows,), 0..1

    def shift(self, y: NDArray[np.float64], t: float) -> NDArray[np.float64]:
        """Return the sideways shift, in px, of points at rows ``y`` of the texture."""
        return self.swing.at(t) * np.interp(y, np.arange(len(self.profile)), self.profile)


@dataclass(frozen=True)
class Surface:
    """One textured part of a scene.

    Attributes:
        label: its class.
        depth: its parallax; further things have smaller depth and are drawn first.
        texture: premultiplied BGRA ``(rows, columns, 4)``.
        matrix: frame index -> texture to screen, without the sway.
        sway: how it deforms, None for a rigid thing.
        is_object: whether it is an object with a box, not background.
    """

    label: int
    depth: float
    texture: NDArray[np.uint8]
    matrix: Callable[[float], Matrix]
    sway: Sway | None = None
    is_object: bool = False

    def to_screen(self, points: Points, t: float) -> Points:
        """Map texture points to screen points at frame ``t``."""
        if self.sway is not None:
            points = points.copy()
            points[..., 0] += self.sway.shift(points[..., 1], t)
        matrix = self.matrix(t)
        screen: Points = points @ matrix[:, :2].T + matrix[:, 2]
        return screen

    def to_texture(self, points: Points, t: float) -> Points:
        """Map screen points to texture points at frame ``t``; the inverse of ``to_screen``."""
        inverse = invert(self.matrix(t))
        points = points @ inverse[:, :2].T + inverse[:, 2]
        if self.sway is not None:
            points[..., 0] -= self.sway.shift(points[..., 1], t)
        return points

    def draw(
        self, image: NDArray[np.uint8], owners: NDArray[np.int16], owner: int, t: float
    ) -> None:
        """Blend into a BGR image; write ``owner`` where it is more than half opaque.

        Args:
            image: ``(H, W, 3)``, changed in place.
            owners: ``(H, W)``, index of the surface seen in each pixel, changed in place.
            owner: index of this surface.
            t: frame index.
        """
        height, width = owners.shape
        rows, columns = self.texture.shape[:2]
        reach = self.sway.swing.amplitudes.sum() if self.sway is not None else 0.0
        corners = np.array(
            [[x, y] for x in (-1 - reach, columns + reach) for y in (-1.0, rows + 0.0)]
        )
        matrix = self.matrix(t)
        corners = corners @ matrix[:, :2].T + matrix[:, 2]
        left, top = np.clip(np.floor(corners.min(0)), 0, (width, height)).astype(int)
        right, bottom = np.clip(np.ceil(corners.max(0)) + 1, 0, (width, height)).astype(int)
        if left >= right or top >= bottom:
            return
        size = (int(right - left), int(bottom - top))
        if self.sway is None:
            inverse = invert(matrix)
            inverse[:, 2] += inverse[:, :2] @ (left, top)
            drawn = cv2.warpAffine(
                self.texture, inverse, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
            )
        else:
            xs, ys = np.meshgrid(np.arange(left, right), np.arange(top, bottom))
            source = self.to_texture(np.stack([xs, ys], axis=-1).astype(np.float64), t)
            # None, which is missing in the stubs: an empty array makes OpenCV 5 read out of bounds.
            drawn = cv2.remap(  # type: ignore[call-overload]
                self.texture, source.astype(np.float32), None, cv2.INTER_LINEAR
            )
        window = image[top:bottom, left:right]
        alpha = drawn[..., 3]
        below = cv2.multiply(window, cv2.merge([255 - alpha] * 3), scale=1 / 255)
        cv2.add(below, drawn[..., :3], dst=window)
        owners[top:bottom, left:right][alpha > 127] = owner
