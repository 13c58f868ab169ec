"""Motion between two frames that are made of one picture, with its exact flow.

The picture is layered: itself at the back, and moved patches of it in front. A layer has two affine
maps, into the key frame and into the current frame, about which everything is known; on top, the
current frame is bent by a smooth wave, as parallax bends real ones. So what is seen at p in the
current frame is followed exactly: through the wave and the layer's map back to the layer, and by
its other map into the key frame. A camera that drives through the picture (``corridor.py``) changes
what is seen of the back between these two maps, as exactly.

All coordinates here are edge coordinates: the first pixel reaches from 0 to 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dff_edge.opencv import cv2
from dff_edge.trainer.data.corridor import HOME, Drive, draw_drive

Matrix = NDArray[np.float64]  # (2, 3), affine
Points = NDArray[np.float64]  # (..., 2) as (x, y)

# Per frame of distance, at most; small values are drawn more often than large ones.
_PAN = 0.010  # of the frame's width
_ZOOM = 0.015
_TURN_RADIANS = 0.003
_WAVE = 0.001  # of the frame's width
_PATCH_PAN = 0.015  # of the frame's width, beyond the motion of the picture
_PATCH_NEARING = 0.015  # growth of a patch, beyond that of the picture
_SHAKE = 0.003  # of the frame's width, at any distance but 0
_PATCH_RADIUS = (0.05, 0.2)  # of the frame's height
_ROUNDING = 0.01  # px, by which places at the picture's border may be outside
_CALM = 0.25  # of the motion in the picture's plane, where a camera drives through it
_PATCH_ZOOM = (0.8, 1.25)  # of a patch against the picture around it


class Layer(NamedTuple):
    """A part of the picture and where it is in both frames; layer coordinates are (u, v).

    Attributes:
        shape: "all" of the plane, or the inside of the unit circle or of the square of its size.
        picture: from layer coordinates to the picture.
        key: from layer coordinates to the key frame.
        current: from layer coordinates to the current frame before it is bent.
    """

    shape: Literal["all", "ellipse", "rectangle"]
    picture: Matrix
    key: Matrix
    current: Matrix


class Wave(NamedTuple):
    """A smooth bending of a frame: the content at p comes from ``p + bend(p)``.

    Attributes:
        amplitude: px, for x and for y.
        frequency: ``(2, 2)``, radians per px along x and y, for each of the two.
        phase: radians, for each of the two.
    """

    amplitude: NDArray[np.float64]
    frequency: NDArray[np.float64]
    phase: NDArray[np.float64]

    def bend(self, points: Points) -> Points:
        """Return the displacement at points ``(..., 2)``."""
        return self.amplitude * np.sin(points @ self.frequency.T + self.phase)


@dataclass(frozen=True)
class Motion:
    """Two frames of one picture.

    Attributes:
        frame_size: H and W of the frames.
        layers: first the back, which is the whole picture unchanged, then patches of it.
        wave: bends the current frame.
        picture_size: height and width of the picture.
        drive: moves a camera through the back; None for one that stays.
    """

    frame_size: tuple[int, int]
    layers: Sequence[Layer]
    wave: Wave
    picture_size: tuple[int, int]
    drive: Drive | None = None

    def key_map(self) -> Points:
        """Return for each pixel of the key frame where it is in the picture, ``(H, W, 2)``."""
        return self._in_picture(_centres(self.frame_size), is_key=True)[0]

    def current_map(self) -> Points:
        """Return for each pixel of the current frame where it is in the picture, ``(H, W, 2)``."""
        points = _centres(self.frame_size)
        return self._in_picture(points + self.wave.bend(points), is_key=False)[0]

    def flow(self, stride: int) -> NDArray[np.float32]:
        """Return the flow from the current frame to the key frame.

        Args:
            stride: s for the centres of s x s cells, whole ones only; 1 for every pixel.

        Returns:
            float32 ``(H // s, W // s, 2)`` in pixels, NaN where a point of the current frame is
            outside the key frame or hidden there, or is outside the picture.
        """
        height, width = self.frame_size
        points = _centres((height // stride, width // stride)) * stride
        straight = points + self.wave.bend(points)
        places, owners = self._in_picture(straight, is_key=False)
        target = np.empty_like(points)
        for number in np.unique(owners):
            layer, here = self.layers[number], owners == number
            on_layer = apply(invert(layer.current), straight[here])
            if number == 0 and self.drive is not None:
                corridor, key, current = self.drive
                on_layer = corridor.drawn(corridor.seen(on_layer, current), key)
            target[here] = apply(layer.key, on_layer)
        _, key_owners = self._in_picture(target, is_key=True)
        inside = ((target >= 0) & (target <= (width, height))).all(axis=-1)
        known = inside & (key_owners == owners) & in_picture(places, self.picture_size)
        return np.where(known[..., None], target - points, np.nan).astype(np.float32)

    def _in_picture(self, points: Points, *, is_key: bool) -> tuple[Points, NDArray[np.int64]]:
        """Where points of a frame, which is not bent, are in the picture, and on which layer."""
        matrices = [layer.key if is_key else layer.current for layer in self.layers]
        places = apply(invert(matrices[0]), points)  # the back: the picture itself, everywhere
        if self.drive is not None:
            corridor, key, current = self.drive
            places = corridor.drawn(corridor.seen(places, key if is_key else current), HOME)
        owners = np.zeros(points.shape[:-1], np.int64)
        for number in range(1, len(self.layers)):
            layer = self.layers[number]
            on_layer = apply(invert(matrices[number]), points)
            covered = _covered(layer.shape, on_layer)
            if covered.any():
                places[covered] = apply(layer.picture, on_layer[covered])
                owners[covered] = number
        return places, owners


def draw_motion(
    rng: np.random.Generator,
    *,
    picture_size: tuple[int, int],
    frame_size: tuple[int, int],
    distance: int,
    enlarge: float,
    shrink: float,
    mirror: bool,
    patches: int,
    drives: bool = False,
) -> Motion:
    """Draw a motion that grows with the distance.

    It never leaves the picture, unless this may be smaller than the frames or the camera drives.

    Pan, zoom and turn are shared out evenly between the two frames.

    Args:
        rng: random generator.
        picture_size: height and width of the picture.
        frame_size: H and W of the frames; the whole picture is resized to them, then enlarged.
        distance: frames of video between the two; 0 gives two equal frames.
        enlarge: largest enlargement; more where the motion would leave the picture otherwise.
        shrink: smallest size of the picture in the frames, as a share of theirs. Below 1 frames
            may reach beyond the picture.
        mirror: whether both frames are mirrored.
        patches: moved patches in front of the picture.
        drives: whether the camera drives through the picture; it pans and turns less then.
    """
    height, width = frame_size
    drive = draw_drive(rng, picture_size=picture_size, distance=distance) if drives else None
    calm = _CALM if drives else 1.0
    shake = _SHAKE * width * (distance > 0)
    pan = width * _PAN * distance * calm * _often_small(rng, 2) + shake * rng.uniform(-1, 1, 2)
    zoom = float(np.exp(_ZOOM * distance * calm * _often_small(rng, 1)[0]))
    turn = float(_TURN_RADIANS * distance * calm * _often_small(rng, 1)[0])
    wave = Wave(
        width * _WAVE * distance * _often_small(rng, 2),
        2 * np.pi * rng.uniform(-1, 1, (2, 2)) / (width, height),
        rng.uniform(0, 2 * np.pi, 2),
    )
    # From a pixel of the frame, seen from the frame's centre, to the same in a still view.
    views = [_similarity(zoom**half, turn * half, pan * half) for half in (-0.5, 0.5)]
    corner = np.array([width, height]) / 2 + abs(wave.amplitude)
    corners = corner * [[-1, -1], [-1, 1], [1, -1], [1, 1]]
    reach = np.max([abs(apply(view, corners)) for view in views], axis=(0, 1))
    grow = rng.uniform(shrink, enlarge)
    if shrink == 1:
        grow = max(grow, *(2 * reach / (width, height)))
    step = np.array([picture_size[1] / width, picture_size[0] / height]) / grow
    room = np.array(picture_size[::-1]) - 2 * reach * step
    if shrink == 1:  # rounding may leave too much of the longer side
        room = np.maximum(room, 0)
    centre = reach * step + rng.uniform(0, 1, 2) * room
    still = _affine(np.diag(step * (-1 if mirror else 1, 1)), centre)
    to_centre = _affine(np.eye(2), np.array([-width / 2, -height / 2]))
    key, current = (invert(compose(still, compose(view, to_centre))) for view in views)
    layers = [Layer("all", _affine(np.eye(2), np.zeros(2)), key, current)]
    for _ in range(patches):
        layers.append(_draw_patch(rng, layers[0], picture_size, frame_size, distance, step))
    return Motion(frame_size, layers, wave, picture_size, drive)


def _draw_patch(
    rng: np.random.Generator,
    back: Layer,
    picture_size: tuple[int, int],
    frame_size: tuple[int, int],
    distance: int,
    step: NDArray[np.float64],
) -> Layer:
    """Draw a patch that moves with the picture and beyond it."""
    height, width = frame_size
    limit = np.array(picture_size[::-1]) / 2
    radius = np.minimum(rng.uniform(*_PATCH_RADIUS, 2) * height * step, limit)  # in the picture
    source = rng.uniform(radius, np.array(picture_size[::-1]) - radius)
    place = rng.uniform(0, 1, 2) * picture_size[::-1]
    size = radius * rng.uniform(*_PATCH_ZOOM)
    own = width * _PATCH_PAN * distance * _often_small(rng, 2) * step
    nearing = _PATCH_NEARING * distance * _often_small(rng, 1)[0]

    def at(half: float) -> Matrix:
        return _affine(np.diag(size) * np.exp(half * nearing), place + half * own)

    return Layer(
        "ellipse" if rng.random() < 0.5 else "rectangle",
        _affine(np.diag(radius), source),
        compose(back.key, at(-0.5)),
        compose(back.current, at(0.5)),
    )


def in_picture(places: Points, size: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return which places ``(..., 2)`` lie within a picture of ``(height, width)``."""
    height, width = size
    inside = (places >= -_ROUNDING) & (places <= np.array([width, height]) + _ROUNDING)
    return np.asarray(inside.all(axis=-1))


def apply(matrix: Matrix, points: Points) -> Points:
    """Move points ``(..., 2)``, at least one, by an affine map ``(2, 3)``."""
    moved = cv2.transform(np.ascontiguousarray(points).reshape(-1, 1, 2), matrix)
    return np.asarray(moved, np.float64).reshape(points.shape)


def invert(matrix: Matrix) -> Matrix:
    """Invert an affine map ``(2, 3)``."""
    linear = np.asarray(np.linalg.inv(matrix[:, :2]), np.float64)
    return _affine(linear, -linear @ matrix[:, 2])


def compose(outer: Matrix, inner: Matrix) -> Matrix:
    """Return the affine map that applies ``inner`` first."""
    return _affine(outer[:, :2] @ inner[:, :2], apply(outer, inner[:, 2]))


def _affine(linear: NDArray[np.float64], shift: NDArray[np.float64]) -> Matrix:
    return np.column_stack([linear, shift])


def _similarity(zoom: float, turn: float, shift: NDArray[np.float64]) -> Matrix:
    cos, sin = zoom * np.cos(turn), zoom * np.sin(turn)
    return _affine(np.array([[cos, -sin], [sin, cos]]), shift)


def _often_small(rng: np.random.Generator, size: int) -> NDArray[np.float64]:
    """Draw numbers from -1 to 1, small ones more often."""
    drawn = rng.uniform(-1, 1, size)
    return np.asarray(drawn * np.abs(drawn), np.float64)


def _centres(size: tuple[int, int]) -> Points:
    """Return the centres of pixels or cells, ``(H, W, 2)``."""
    rows, columns = np.meshgrid(np.arange(size[0]), np.arange(size[1]), indexing="ij")
    return np.asarray(np.stack([columns, rows], axis=-1) + 0.5, np.float64)


def _covered(shape: str, points: Points) -> NDArray[np.bool_]:
    if shape == "ellipse":
        return np.asarray(points[..., 0] ** 2 + points[..., 1] ** 2 <= 1)
    return np.asarray((abs(points[..., 0]) <= 1) & (abs(points[..., 1]) <= 1))
