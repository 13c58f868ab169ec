"""A synthetic street: its contents, frames, labels, boxes and exact flow.

Deterministic: a scene is a function of (split, seed, size), a frame a function of the scene and its
number. The splits draw from separate seed sequences, so no scene is in two of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
from numpy.typing import NDArray

from dff_edge.errors import ConfigError
from dff_edge.synthetic import paint
from dff_edge.synthetic.effects import Effects, draw_effects
from dff_edge.synthetic.motion import (
    STEADY,
    Camera,
    Matrix,
    compose,
    draw_camera,
    draw_pace,
    oscillation,
)
from dff_edge.synthetic.surfaces import Points, Surface, Sway

CLASSES = ("sky", "building", "vegetation", "pavement", "road", "vehicle", "pedestrian", "pole")
COLOURS = (  # RGB
    (70, 130, 180),
    (128, 128, 128),
    (107, 142, 35),
    (232, 35, 244),
    (128, 64, 128),
    (0, 0, 200),
    (220, 20, 60),
    (250, 200, 30),
)
SPLITS = ("train", "val", "test")
MOTIONS = ("steady", "mixed")

_SKY, _BUILDING, _VEGETATION, _PAVEMENT, _ROAD, _VEHICLE, _PEDESTRIAN, _POLE = range(len(CLASSES))
_HORIZON, _KERB = 0.50, 0.63  # top of the pavement and of the road, as shares of the height
_MARGIN = 260  # px that a background layer reaches beyond the frame on each side
_MIN_SIDE_PX, _MAX_SIDE_PX = 32, 8192
_MAX_ASPECT = 8  # wider, and a rolling camera would see past the ends of the background

_Drawing = tuple[NDArray[np.uint8], NDArray[np.int16]]  # image (H, W, 3); visible surface (H, W)


@dataclass(frozen=True)
class Box:
    """One visible object: its class, its number within the scene, and its pixels' bounds.

    Attributes:
        xyxy: ``(x_min, y_min, x_max, y_max)`` in pixels; the maxima are exclusive.
        visible_px: number of its visible pixels.
    """

    label: int
    identity: int
    xyxy: tuple[int, int, int, int]
    visible_px: int


class StreetScene:
    """A street seen by a moving camera.

    Args:
        seed: number of the scene; any non-negative integer.
        split: "train", "val" or "test"; the same seed has different scenes in each.
        size: frame height and width in pixels, 32 to 8192, at most 8 times as wide as high.
        length: number of frames.
        motion: "steady", or "mixed" for a camera that stands, drives and turns, 30 frames each.

    Raises:
        ConfigError: for an invalid seed, split, size, length or motion.

    Example:
        >>> scene = StreetScene(seed=5, split="val", size=(64, 128), length=10)
        >>> image, labels = scene.render(3)
        >>> image.shape, labels.shape, len(scene)
        ((64, 128, 3), (64, 128), 10)
    """

    def __init__(
        self,
        seed: int,
        split: str = "val",
        size: tuple[int, int] = (256, 512),
        length: int = 100,
        motion: str = "steady",
    ) -> None:
        if split not in SPLITS:
            raise ConfigError(f"split is '{split}', expected one of {', '.join(SPLITS)}.")
        if min(size) < _MIN_SIDE_PX or max(size) > _MAX_SIDE_PX or size[1] > _MAX_ASPECT * size[0]:
            raise ConfigError(
                f"size is {size}, expected height and width from {_MIN_SIDE_PX} to {_MAX_SIDE_PX} "
                f"pixels, and at most {_MAX_ASPECT} times as wide as high."
            )
        if seed < 0 or length < 1:
            raise ConfigError(f"seed is {seed} and length {length}, expected >= 0 and >= 1.")
        if motion not in MOTIONS:
            raise ConfigError(f"motion is '{motion}', expected {' or '.join(MOTIONS)}.")
        self.size = size
        self.length = length
        of_scene = [SPLITS.index(split), seed]
        # Drawn by itself: the same scene is seen in both motions.
        pace = STEADY if motion == "steady" else draw_pace(np.random.default_rng([*of_scene, 1]))
        rng = np.random.default_rng(of_scene)
        self._camera = draw_camera(rng, *size, horizon=_HORIZON * size[0], pace=pace)
        self._effects: Effects = draw_effects(rng, size)
        self._surfaces = _background(rng, self._camera, size) + _things(rng, self._camera, size)
        self._surfaces.sort(key=lambda surface: surface.depth)
        self._labels_of = np.array([surface.label for surface in self._surfaces], np.uint8)
        # Not a bound method: the scene would refer to itself and wait for the garbage collector.
        self._drawn = lru_cache(maxsize=2)(partial(_draw, self._surfaces, size))

    def __len__(self) -> int:
        return self.length

    def render(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Draw one frame.

        Returns:
            The image, uint8 ``(H, W, 3)`` BGR, and its labels, uint8 ``(H, W)``; both new arrays.

        Raises:
            IndexError: the scene has no such frame.
        """
        self._check(index)
        clean, owners = self._drawn(index)
        image = self._effects.apply(clean, index, self._camera.pan_rate_at(index))
        return image, self._labels_of[owners]

    def boxes(self, index: int) -> list[Box]:
        """Return the objects with at least one visible pixel in a frame, far ones first."""
        self._check(index)
        _, owners = self._drawn(index)
        boxes = []
        for identity in np.unique(owners):
            surface = self._surfaces[identity]
            if not surface.is_object:
                continue
            ys, xs = np.nonzero(owners == identity)
            xyxy = (int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1)
            boxes.append(Box(surface.label, int(identity), xyxy, len(xs)))
        return boxes

    def flow(
        self, current: int, key: int, stride: int = 1
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Return the exact flow from the current frame to the key frame, and where it is hidden.

        Args:
            current: frame i, where the flow starts.
            key: frame k, where it points to; before or after the current one.
            stride: 1 for every pixel; s for the centres of s x s cells, whole ones only.

        Returns:
            flow: float32 ``(H // s, W // s, 2)`` as (dx, dy) in *frame pixels*: the point at p
            in the current frame lies at p + flow in the key frame.
            occluded: bool ``(H // s, W // s)``, True where that place is outside the key frame or
            hidden there.

        Raises:
            IndexError: the scene has no such frame.
            ConfigError: the stride is below 1 or larger than the frame.
        """
        self._check(current)
        self._check(key)
        if not 1 <= stride <= min(self.size):
            raise ConfigError(f"stride is {stride}, expected 1 to {min(self.size)} pixels.")
        height, width = self.size
        _, owners = self._drawn(current)
        _, key_owners = self._drawn(key)
        centre = (stride - 1) / 2
        ys, xs = np.meshgrid(
            np.arange(height // stride) * stride + centre,
            np.arange(width // stride) * stride + centre,
            indexing="ij",
        )
        points = np.stack([xs, ys], axis=-1)
        owner_at = owners[np.rint(ys).astype(int), np.rint(xs).astype(int)]
        if current == key:  # exactly, whatever the rounding of the maps there and back
            return np.zeros(points.shape, np.float32), np.zeros(owner_at.shape, np.bool_)
        target = self._moved(points.reshape(-1, 2), owner_at.ravel(), current, key)
        target = target.reshape(points.shape)
        nearest = np.rint(target).astype(int)
        inside = (
            (nearest[..., 0] >= 0)
            & (nearest[..., 0] < width)
            & (nearest[..., 1] >= 0)
            & (nearest[..., 1] < height)
        )
        safe_y = np.clip(nearest[..., 1], 0, height - 1)
        safe_x = np.clip(nearest[..., 0], 0, width - 1)
        occluded = ~inside | (key_owners[safe_y, safe_x] != owner_at)
        return (target - points).astype(np.float32), occluded

    def _moved(self, points: Points, owner_of: NDArray[np.int16], start: int, end: int) -> Points:
        """Return where points ``(n, 2)`` of the frame ``start`` are in the frame ``end``."""
        order = np.argsort(owner_of, kind="stable")
        bounds = np.flatnonzero(np.diff(owner_of[order])) + 1
        moved = np.empty_like(points)
        for group in np.split(order, bounds):
            surface = self._surfaces[owner_of[group[0]]]
            moved[group] = surface.to_screen(surface.to_texture(points[group], start), end)
        return moved

    def _check(self, index: int) -> None:
        if not 0 <= index < self.length:
            raise IndexError(f"frame {index} of a scene of {self.length} frames.")


def _draw(surfaces: list[Surface], size: tuple[int, int], index: int) -> _Drawing:
    image = np.zeros((*size, 3), np.uint8)
    owners = np.zeros(size, np.int16)
    for owner, surface in enumerate(surfaces):
        surface.draw(image, owners, owner, index)
    return image, owners


def _background(rng: np.random.Generator, camera: Camera, size: tuple[int, int]) -> list[Surface]:
    height, width = size
    unit = height / 256
    margin = int(_MARGIN * unit)
    wide = width + 2 * margin

    def layer(label: int, depth: float, texture: NDArray[np.uint8], top: float) -> Surface:
        place = np.array([[1.0, 0.0, -margin], [0.0, 1.0, top]])
        return Surface(label, depth, texture, lambda t: compose(camera.matrix(t, depth), place))

    horizon, kerb = int(_HORIZON * height), int(_KERB * height)
    up = int(0.25 * height)  # sky above the frame, for tilt and shake
    sky = paint.sky(rng, height + 2 * up, wide)
    skyline = paint.skyline(rng, horizon + up, wide, horizon + up - 1, unit)
    pavement = paint.pavement(rng, height - horizon + up, wide, unit)
    road = paint.road(rng, height - kerb + up, wide, unit)
    return [
        layer(_SKY, 0.05, sky, -up),
        layer(_BUILDING, 0.45, skyline, -up + 6 * unit),
        layer(_PAVEMENT, 0.55, pavement, horizon),
        layer(_ROAD, 0.60, road, kerb),
    ]


def _things(rng: np.random.Generator, camera: Camera, size: tuple[int, int]) -> list[Surface]:
    """Create objects that stand on the ground; the lower their feet, the nearer and faster."""
    height, width = size
    unit = height / 256
    things: list[Surface] = []

    def add(
        label: int, texture: NDArray[np.uint8], feet: float, speed: float, sway: Sway | None
    ) -> None:
        nearness = (feet - _HORIZON) / (1 - _HORIZON)
        depth = 0.62 + 0.55 * nearness
        scale = 0.7 + 0.75 * nearness
        rows, columns = texture.shape[:2]
        period = width + 2 * _MARGIN * unit + 2 * columns * scale
        start = rng.uniform(0, period)
        bob = oscillation(rng, amplitude=1.2 * unit if speed else 0.0, speed=0.25 * unit)
        grow = oscillation(rng, amplitude=0.10 if speed else 0.0, speed=0.006)

        def matrix(t: float) -> Matrix:
            size_now = scale * (1 + grow.at(t))
            x = (start + speed * t) % period - _MARGIN * unit - columns * scale
            y = feet * height + bob.at(t)
            place = np.array(
                [
                    [size_now, 0.0, x - size_now * columns / 2],
                    [0.0, size_now, y - size_now * (rows - 1)],
                ]
            )
            return compose(camera.matrix(t, depth), place)

        things.append(Surface(label, depth, texture, matrix, sway, is_object=label >= _VEHICLE))

    def speed_px(low: float, high: float) -> float:
        return float(rng.choice([-1, 1]) * rng.uniform(low, high) * unit)

    density = width / (2.0 * height)
    for _ in range(_count(rng, 3, 8, density)):
        texture = paint.tree(rng, unit)
        add(_VEGETATION, texture, rng.uniform(0.505, 0.60), 0.0, _sway(rng, texture, "tree", unit))
    for _ in range(_count(rng, 3, 8, density)):
        add(_POLE, paint.pole(rng, unit), rng.uniform(0.54, 0.74), 0.0, None)
    for _ in range(_count(rng, 3, 8, density)):
        speed = speed_px(0.5, 4.5) if rng.random() < 0.75 else 0.0
        add(_VEHICLE, paint.vehicle(rng, unit), rng.uniform(0.66, 0.96), speed, None)
    for _ in range(_count(rng, 4, 9, density)):
        texture = paint.pedestrian(rng, unit)
        speed = speed_px(0.3, 2.2)
        add(_PEDESTRIAN, texture, rng.uniform(0.57, 0.92), speed, _sway(rng, texture, "walk", unit))
    return things


def _count(rng: np.random.Generator, low: int, high: int, density: float) -> int:
    """Return how many objects of a kind there are, for a world as wide as the frame."""
    return max(int(round(rng.integers(low, high) * density)), 1)


def _sway(rng: np.random.Generator, texture: NDArray[np.uint8], kind: str, unit: float) -> Sway:
    rows = np.linspace(0, 1, texture.shape[0])
    if kind == "tree":  # the foot stands still, the crown moves
        return Sway(
            oscillation(rng, amplitude=rng.uniform(1, 5) * unit, speed=0.7 * unit), (1 - rows) ** 2
        )
    return Sway(  # the legs swing below the hip
        oscillation(rng, amplitude=rng.uniform(2, 5) * unit, speed=1.6 * unit),
        np.clip(rows - 0.5, 0, None) * 2,
    )
