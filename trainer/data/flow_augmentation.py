"""Augmentation of pairs with true flow, as FlowNet was trained.

Both frames are views of their pictures through one strong geometric change and a small relative
motion; the flow is changed exactly. The views are fitted into the pictures, so that no frame
has an empty border.

Source: Dosovitskiy et al., FlowNet: Learning Optical Flow with Convolutional Networks, ICCV 2015,
    section 4.3: translation by up to 20% of the width, rotation by up to 17 degrees, scaling by 0.9
    to 2.0; noise of up to 0.04, contrast -0.8 to 0.4, colours times 0.5 to 2, gamma 0.7 to 1.5,
    brightness of deviation 0.2.
Differs from the paper: it does not give the size of the relative motion. Its authors' later
    training files draw it with deviations of 0.03 of the size, 0.03 radians and 3% of scale, and
    change the colours of the second frame a little more; here it is drawn evenly from about the
    same (``_RELATIVE_*``). Translation and scaling are fitted into the picture by other means.

All coordinates here are edge coordinates: the first pixel reaches from 0 to 1.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dff_edge.frames import Image
from dff_edge.opencv import cv2
from dff_edge.trainer.data.motion import Matrix, apply, invert
from dff_edge.trainer.data.pairs import FLOW_STRIDE

# A pixel of the picture is one of the half-size frame, which the flow network reads.
PICTURE_PX = 0.5  # per pixel of the frame, before any scaling

_TRANSLATION = 0.2  # of the picture's width, at most
_ROTATION_DEGREES = 17.0
_SCALE = (0.9, 2.0)
_RELATIVE_TRANSLATION = 0.03  # of the frame's width
_RELATIVE_ROTATION_DEGREES = 2.0
_RELATIVE_SCALE = 1.03

_CONTRAST = (-0.8, 0.4)
_COLOUR = (0.5, 2.0)
_GAMMA = (0.7, 1.5)
_BRIGHTNESS_DEVIATION = 0.2
_MAX_NOISE_DEVIATION = 0.04


class Views(NamedTuple):
    """Affine, from the pixels of the frames to those of the pictures they are drawn from."""

    current: Matrix
    key: Matrix


class FlowPair(NamedTuple):
    """A pair at the size of the network.

    Attributes:
        current, key: uint8 ``(H, W, 3)`` BGR.
        flow_px: float32 ``(H/8, W/8, 2)`` in pixels from the current to the key frame, at the
            centres of 8 x 8 pixels; NaN where unknown.
    """

    current: Image
    key: Image
    flow_px: NDArray[np.float32]


def augment_flow(
    rng: np.random.Generator,
    current: Image,
    key: Image,
    flow_px: NDArray[np.float32],
    frame_size: tuple[int, int],
) -> FlowPair:
    """Draw a change of a pair, and make the frames.

    Args:
        rng: random generator.
        current, key: uint8 ``(h, w, 3)`` BGR, the pictures.
        flow_px: ``(h, w, 2)`` in pixels from ``current`` to ``key``, NaN where unknown.
        frame_size: H and W of the frames.
    """
    size = (current.shape[0], current.shape[1])
    pair = view_pair(current, key, flow_px, draw_views(rng, size, frame_size), frame_size)
    colours = draw_colours(rng)
    return pair._replace(current=colours.apply(rng, pair.current), key=colours.apply(rng, pair.key))


def plain_flow(
    current: Image, key: Image, flow_px: NDArray[np.float32], frame_size: tuple[int, int]
) -> FlowPair:
    """Make the frames of a pair of the middle of the pictures, for validation.

    Arguments are those of ``augment_flow``.
    """
    size = (current.shape[0], current.shape[1])
    views = _fit(np.eye(2), np.eye(2), np.zeros(2), np.zeros(2), size, frame_size)
    return view_pair(current, key, flow_px, views, frame_size)


def draw_views(
    rng: np.random.Generator, picture_size: tuple[int, int], frame_size: tuple[int, int]
) -> Views:
    """Draw the part of the pictures that the two frames show.

    Args:
        rng: random generator.
        picture_size: height and width of both pictures.
        frame_size: H and W of the frames.
    """
    angle = np.deg2rad(rng.uniform(-_ROTATION_DEGREES, _ROTATION_DEGREES))
    relative = np.deg2rad(rng.uniform(-1, 1) * _RELATIVE_ROTATION_DEGREES)
    scale = np.exp(rng.uniform(*np.log(_SCALE)))
    relative_scale = _RELATIVE_SCALE ** rng.uniform(-1, 1)
    shift = rng.uniform(-1, 1, 2) * _RELATIVE_TRANSLATION * frame_size[1] / scale
    current = _rotation(angle) / scale
    key = _rotation(angle + relative) / (scale * relative_scale)
    return _fit(current, key, shift, rng.uniform(-1, 1, 2), picture_size, frame_size)


def view_pair(
    current: Image,
    key: Image,
    flow_px: NDArray[np.float32],
    views: Views,
    frame_size: tuple[int, int],
) -> FlowPair:
    """Make the frames that two views show, and the flow between them.

    The point p of the current frame is at ``x = A p`` in its picture, at ``x + flow(x)`` in the
    other one, and so at ``B^-1 (x + flow(x))`` in the key frame, with A and B the views.
    """
    cells = (frame_size[0] // FLOW_STRIDE, frame_size[1] // FLOW_STRIDE)
    y, x = np.mgrid[: cells[0], : cells[1]]
    points = (np.stack([x, y], -1) + 0.5) * FLOW_STRIDE
    sources = apply(views.current, points)
    targets = sources + _sample(flow_px, sources)
    flow = apply(invert(views.key), targets) - points
    return FlowPair(
        _view(current, views.current, frame_size),
        _view(key, views.key, frame_size),
        flow.astype(np.float32),
    )


class Colours(NamedTuple):
    """A change of colours, of values 0..1: ``contrast(value) ** gamma * colour + brightness``."""

    contrast: float
    gamma: float
    colour: NDArray[np.float64]
    brightness: float
    noise: float

    def apply(self, rng: np.random.Generator, image: Image) -> Image:
        """Change an image uint8 ``(H, W, 3)``; only the noise is drawn anew."""
        levels = np.arange(256)[:, None] / 255
        levels = np.clip(0.5 + (levels - 0.5) * (1 + self.contrast), 0, 1)
        levels = np.clip(levels**self.gamma * self.colour + self.brightness, 0, 1) * 255
        values = np.asarray(cv2.LUT(image, levels.astype(np.float32)[None]), np.float32)
        values += rng.standard_normal(image.shape, np.float32) * (self.noise * 255)
        changed: Image = np.clip(np.rint(values), 0, 255).astype(np.uint8)
        return changed


def draw_colours(rng: np.random.Generator) -> Colours:
    """Draw a change of colours."""
    return Colours(
        contrast=rng.uniform(*_CONTRAST),
        gamma=rng.uniform(*_GAMMA),
        colour=rng.uniform(*_COLOUR, 3),
        brightness=rng.normal(0, _BRIGHTNESS_DEVIATION),
        noise=rng.uniform(0, _MAX_NOISE_DEVIATION),
    )


def _fit(
    current: NDArray[np.float64],
    key: NDArray[np.float64],
    shift: NDArray[np.float64],
    place: NDArray[np.float64],
    picture_size: tuple[int, int],
    frame_size: tuple[int, int],
) -> Views:
    """Fit two frames into their pictures, enlarging them if necessary.

    Args:
        current, key: (2, 2), rotation and scaling of the frames.
        shift: of the key frame against the current one, in pixels of the frame.
        place: -1..1 from the first to the last possible place for x and for y, at most a
            fifth of the picture's width from the middle.
        picture_size: height and width of both pictures.
        frame_size: H and W of the frames.
    """
    size = np.array(picture_size[::-1], float)
    frame = np.array(frame_size[::-1], float)
    corners = np.array([[-1, -1], [1, -1], [-1, 1], [1, 1]]) / 2 * frame
    # Corners of both frames about the middle of the current one, in pixels of the picture.
    reached = np.concatenate([corners @ current.T, corners @ key.T + shift]) * PICTURE_PX
    low, high = reached.min(0), reached.max(0)
    unit = PICTURE_PX * min(1.0, float((size / (high - low)).min()))
    low, high = low * unit / PICTURE_PX, high * unit / PICTURE_PX
    room = np.minimum((size - (high - low)) / 2, _TRANSLATION * size[0])
    middle = (size - high - low) / 2 + room * place
    return Views(
        _about(current * unit, frame / 2, middle),
        _about(key * unit, frame / 2, middle + shift * unit),
    )


def _rotation(radians: float) -> NDArray[np.float64]:
    cos, sin = np.cos(radians), np.sin(radians)
    return np.array([[cos, -sin], [sin, cos]])


def _about(
    linear: NDArray[np.float64], point: NDArray[np.float64], to: NDArray[np.float64]
) -> Matrix:
    """Return the affine map with a linear part that maps a point to another."""
    return np.column_stack([linear, to - linear @ point])


def _sample(flow_px: NDArray[np.float32], points: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the flow at points, bilinear between pixel centres; NaN next to unknown flow."""
    x, y = np.moveaxis(points - 0.5, -1, 0).astype(np.float32)
    sampled: NDArray[np.float32] = np.asarray(
        cv2.remap(flow_px, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.float32
    )
    return sampled


def _view(picture: Image, view: Matrix, frame_size: tuple[int, int]) -> Image:
    # OpenCV's maps are between pixel centres.
    centres = view.copy()
    centres[:, 2] += view[:, :2] @ [0.5, 0.5] - 0.5
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    drawn = cv2.warpAffine(
        picture, centres, frame_size[::-1], flags=flags, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(drawn, np.uint8)
