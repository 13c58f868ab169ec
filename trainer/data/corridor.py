"""The view of a camera that drives through a street: parallax of ground, walls and a far end.

A picture of a street is painted from within on the sides of a long box, from where it was taken.
Seen from another place in the box it is another picture, in which near things have moved more than
far ones; and since the box is convex, nothing hides anything, so that each place of one picture is
found in any other one exactly.

Coordinates: pictures as in ``motion.py``; the box in metres, x to the right, y down, z ahead.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]  # (..., 2) in a picture, or (..., 3) in the box

# Lengths in metres, smallest and largest.
_GROUND = (1.2, 2.5)
_CEILING = (10.0, 40.0)
_WALL = (3.0, 20.0)
_END = (30.0, 200.0)
_FOCAL = (0.8, 1.4)  # of the picture's width
_VANISHING = (0.1, 0.08)  # how far from the middle, of the picture's width and height
# Per frame of video, at most.
_FORWARD = 0.5  # m: 54 km/h at 30 frames a second
_SIDEWAYS = 0.03  # m
_YAW_RADIANS = 0.012
_NOD_RADIANS = 0.01  # at any distance but 0: bumps do not add up
_LEFT_AHEAD = 0.5  # of the way to the end, at least
_NEAREST = 0.1  # m, of what is drawn
_OUTSIDE = -1e4  # px: a place that is in no picture


class Pose(NamedTuple):
    """Where a camera is in the box.

    Attributes:
        rotation: ``(3, 3)``, from directions of the camera to those of the box.
        position: ``(3,)``, m.
    """

    rotation: NDArray[np.float64]
    position: NDArray[np.float64]


HOME = Pose(np.eye(3), np.zeros(3))  # where the picture was taken


class Corridor(NamedTuple):
    """The box and the camera.

    Attributes:
        focal: px.
        vanishing: ``(x, y)`` where lines end that go straight ahead at ``HOME``, px.
        low, high: the sides of the box along x, y and z from ``HOME``, m; behind it is open.
    """

    focal: float
    vanishing: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]

    def seen(self, places: Points, pose: Pose) -> Points:
        """Find what a camera sees at places ``(..., 2)`` of its picture, ``(..., 3)``."""
        across, down = np.moveaxis((places - self.vanishing) / self.focal, -1, 0)
        # Axis by axis: reductions over an axis of three take several times as long.
        rays = [right * across + below * down + ahead for right, below, ahead in pose.rotation]
        reach = np.full(places.shape[:-1], np.inf)
        with np.errstate(divide="ignore", invalid="ignore"):
            for ray, low, high, own in zip(rays, self.low, self.high, pose.position, strict=True):
                side = np.where(ray > 0, high - own, low - own)
                reach = np.minimum(reach, np.where(ray == 0, np.inf, side / ray))
        return np.stack(
            [own + reach * ray for own, ray in zip(pose.position, rays, strict=True)], -1
        )

    def drawn(self, points: Points, pose: Pose) -> Points:
        """Find where points ``(..., 3)`` are in a camera's picture, ``(..., 2)``.

        What is not before the camera gets a place that is outside every picture.
        """
        offsets = np.moveaxis(points, -1, 0) - pose.position.reshape(3, *[1] * (points.ndim - 1))
        across, down, depth = np.tensordot(pose.rotation.T, offsets, axes=1)
        is_ahead = depth > _NEAREST
        factor = self.focal / np.where(is_ahead, depth, 1.0)
        places = np.stack([across * factor, down * factor], axis=-1) + self.vanishing
        places[~is_ahead] = _OUTSIDE
        return places


class Drive(NamedTuple):
    """A corridor and the two cameras of a pair."""

    corridor: Corridor
    key: Pose
    current: Pose


def draw_drive(rng: np.random.Generator, *, picture_size: tuple[int, int], distance: int) -> Drive:
    """Draw a corridor about a picture, and a drive through it that grows with the distance.

    Args:
        rng: what to draw from.
        picture_size: height and width of the picture.
        distance: frames of 30 Hz video between the key frame and the current one.
    """
    height, width = picture_size
    end = _between(rng, *_END)
    corridor = Corridor(
        width * rng.uniform(*_FOCAL),
        np.array([width, height]) * (0.5 + rng.uniform(-1, 1, 2) * _VANISHING),
        np.array([-_between(rng, *_WALL), -_between(rng, *_CEILING), -np.inf]),
        np.array([_between(rng, *_WALL), _between(rng, *_GROUND), end]),
    )
    forward = min(_FORWARD * distance * rng.uniform(0, 1), (1 - _LEFT_AHEAD) * end)
    side, yaw = rng.uniform(-1, 1, 2) * abs(rng.uniform(-1, 1, 2))  # small ones more often
    step = np.array([_SIDEWAYS * distance * side, 0.0, forward])
    turn = np.array(
        [_NOD_RADIANS * (distance > 0) * rng.uniform(-1, 1), _YAW_RADIANS * distance * yaw]
    )
    share = rng.uniform(0, 1)  # of the way, that lies before the place of the picture
    key, current = (Pose(_rotation(*(s * turn)), s * step) for s in (-share, 1 - share))
    return Drive(corridor, key, current)


def _between(rng: np.random.Generator, low: float, high: float) -> float:
    """Draw a length, any octave as likely as another."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _rotation(nod: float, yaw: float) -> NDArray[np.float64]:
    """A camera that looks down by ``nod`` and to the right by ``yaw``, in radians."""
    cos, sin = np.cos(nod), np.sin(nod)
    about_x = np.array([[1, 0, 0], [0, cos, sin], [0, -sin, cos]])
    cos, sin = np.cos(yaw), np.sin(yaw)
    about_y = np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])
    return about_y @ about_x
