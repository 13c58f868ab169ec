"""Motion of the camera and the objects of a synthetic scene: smooth, bounded, deterministic.

Every motion is a sum of sinusoids in the frame index, so that any frame can be rendered
without the frames before it and no scene ever runs out of world.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]  # (2, 3), maps (x, y, 1) to (x, y)


@dataclass(frozen=True)
class Oscillation:
    """``sum_n amplitude_n * sin(rate_n * t + phase_n)``, t in frames."""

    amplitudes: NDArray[np.float64]
    rates: NDArray[np.float64]
    phases: NDArray[np.float64]

    def at(self, t: float) -> float:
        """Return the value at frame ``t``."""
        return float(np.dot(self.amplitudes, np.sin(self.rates * t + self.phases)))

    def rate_at(self, t: float) -> float:
        """Return the derivative at frame ``t``, per frame."""
        return float(np.dot(self.amplitudes * self.rates, np.cos(self.rates * t + self.phases)))


def oscillation(
    rng: np.random.Generator, *, amplitude: float, speed: float, terms: int = 2
) -> Oscillation:
    """Draw an oscillation.

    Args:
        rng: source of the phases.
        amplitude: the sum never exceeds it.
        speed: largest change per frame, of all terms together.
        terms: number of sinusoids; their rates are not multiples of each other.
    """
    shares = rng.dirichlet(np.full(terms, 4.0))
    amplitudes = amplitude * shares
    rates = speed / max(amplitude, 1e-9) * rng.uniform(0.7, 1.0, terms)
    return Oscillation(amplitudes, rates, rng.uniform(0, 2 * np.pi, terms))


@dataclass(frozen=True)
class Pace:
    """Speeds of a camera that stands, drives and turns, phase after phase, over and over.

    Attributes:
        speeds: of each phase, as multiples of the camera's own.
        frames: length of a phase.
    """

    speeds: tuple[float, ...] = (1.0,)
    frames: int = 30

    def speed_at(self, t: float) -> float:
        """Return the speed at frame ``t``."""
        return self.speeds[int(t // self.frames) % len(self.speeds)]

    def time_at(self, t: float) -> float:
        """Return the frame at which a camera of a constant pace is where this one is at ``t``."""
        phase = int(t // self.frames)
        rounds, rest = divmod(phase, len(self.speeds))
        whole = rounds * sum(self.speeds) + sum(self.speeds[:rest])
        return whole * self.frames + self.speed_at(t) * (t - phase * self.frames)


STEADY = Pace()


def draw_pace(rng: np.random.Generator) -> Pace:
    """Draw the order in which a camera stands, drives and turns."""
    return Pace(tuple(float(speed) for speed in rng.permutation([0.0, 0.4, 2.5])))


@dataclass(frozen=True)
class Camera:
    """Pan, tilt, dolly, roll and shake of the camera that looks at a layered world.

    A layer of depth factor ``d`` (0 infinitely far, 1 about the nearest things) moves by ``d``
    times the pan and grows by ``d`` times the dolly about the vanishing point: parallax.
    """

    centre: tuple[float, float]  # vanishing point, px
    pan: Oscillation  # px at depth 1
    tilt: Oscillation  # px at depth 1
    dolly: Oscillation  # relative growth at depth 1
    roll: Oscillation  # rad
    shake_x: Oscillation  # px, the same for every depth
    shake_y: Oscillation
    pace: Pace = STEADY  # of all but the shake

    def pan_rate_at(self, t: float) -> float:
        """Return the speed of the pan at frame ``t``, in px per frame at depth 1."""
        return self.pan.rate_at(self.pace.time_at(t)) * self.pace.speed_at(t)

    def matrix(self, t: float, depth: float) -> Matrix:
        """Return the map from the world of a layer to the screen at frame ``t``."""
        cx, cy = self.centre
        own = self.pace.time_at(t)
        grow = 1.0 + depth * self.dolly.at(own)
        cos, sin = np.cos(self.roll.at(own)) * grow, np.sin(self.roll.at(own)) * grow
        shift_x = depth * self.pan.at(own) + self.shake_x.at(t)
        shift_y = depth * self.tilt.at(own) + self.shake_y.at(t)
        return np.array(
            [
                [cos, -sin, cx - cos * cx + sin * cy + shift_x],
                [sin, cos, cy - sin * cx - cos * cy + shift_y],
            ]
        )


def draw_camera(
    rng: np.random.Generator, height: int, width: int, horizon: float, pace: Pace = STEADY
) -> Camera:
    """Draw a camera whose pan is the main motion, between strolling and turning fast."""
    unit = height / 256
    return Camera(
        centre=(width / 2, horizon),
        pan=oscillation(rng, amplitude=140 * unit, speed=rng.uniform(4.0, 11.0) * unit),
        tilt=oscillation(rng, amplitude=10 * unit, speed=rng.uniform(0.3, 1.2) * unit),
        dolly=oscillation(rng, amplitude=0.16, speed=rng.uniform(0.002, 0.010)),
        roll=oscillation(rng, amplitude=0.03, speed=rng.uniform(0.0005, 0.003)),
        shake_x=oscillation(rng, amplitude=rng.uniform(0.2, 1.6) * unit, speed=1.2 * unit, terms=3),
        shake_y=oscillation(rng, amplitude=rng.uniform(0.2, 1.6) * unit, speed=1.2 * unit, terms=3),
        pace=pace,
    )


def compose(outer: Matrix, inner: Matrix) -> Matrix:
    """Return the map that applies ``inner``, then ``outer``."""
    return np.hstack(
        [outer[:, :2] @ inner[:, :2], (outer[:, :2] @ inner[:, 2] + outer[:, 2])[:, None]]
    )


def invert(matrix: Matrix) -> Matrix:
    """Return the inverse of an affine map."""
    linear = np.linalg.inv(matrix[:, :2])
    return np.hstack([linear, (-linear @ matrix[:, 2])[:, None]])
