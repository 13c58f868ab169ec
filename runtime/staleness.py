"""How stale an answer is: the share of it that is expected to differ from the full network's now.

Propagation is wrong where the flow is, and where something came into view: long and ragged flow,
and a warped key frame that does not look like the frame tell of it. Each is one number of a frame,
taken from what the flow network has read and computed; a model in the bundle, fitted without
labels (``dff_edge.calibration.staleness``), makes a prediction of them. The scale field adds
nothing beside them, and would have to be copied from a GPU.

Related: Li et al., Low-Latency Video Semantic Segmentation, CVPR 2018, and Xu et al., Dynamic Video
    Segmentation Network, CVPR 2018, train a network of its own for this.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from dff_edge.bundle.manifest import Manifest
from dff_edge.bundle.staleness import MEASURES, Measure, Term
from dff_edge.frames import Image
from dff_edge.opencv import cv2

_FAR = 1e6  # cells; a longer flow leads nowhere
_PER_CELL = 2  # samples of the half-size frames, on each side of a feature cell

# Below, a measure is noise: grain of a camera, rounding of a flow.
_FLOORS: Mapping[Measure, float] = {
    "distance": 0.5,
    "flow": 0.01,
    "flow_spread": 0.01,
    "error": 0.5,
}


def measure(
    distance: int, flow: NDArray[np.float32], key_half: Image, frame_half: Image
) -> NDArray[np.float64]:
    """Measure a propagated frame.

    Args:
        distance: captured frames from the key frame to it, at least 1.
        flow: ``(1, h, w, 2)`` in feature cells, from the frame to the key frame.
        key_half, frame_half: uint8 ``(1, H/2, W/2, 3)``, what the flow network has read.

    Returns:
        ``(4,)``, logarithms of the ``MEASURES``: distance in frames; mean length of the flow, and
        of its slope, in feature cells; mean difference between the frame and the key frame moved
        by the flow, in levels of 255, where a change of the light is made up for. NaN where the
        flow is not finite, or meaningless.
    """
    moved = flow[0]
    if not np.abs(moved).max() < _FAR:  # nor is a NaN
        return np.full(len(MEASURES), np.nan)
    right, down = np.diff(moved, axis=1)[:-1], np.diff(moved, axis=0)[:, :-1]
    cells = moved.shape[:2]
    values: dict[Measure, float] = {
        "distance": distance,
        "flow": float(np.hypot(moved[..., 0], moved[..., 1]).mean()),
        "flow_spread": float(np.sqrt((right**2 + down**2).sum(axis=-1)).mean()),
        "error": _error(_small(frame_half, cells), _carried(_small(key_half, cells), moved)),
    }
    return np.array([math.log(values[name] + _FLOORS[name]) for name in MEASURES])


class Staleness:
    """Predicts how stale answers are.

    Args:
        bias, terms, growth: see ``StalenessModel``.
    """

    def __init__(self, bias: float, terms: Mapping[Measure, Term], growth: float = 1.0) -> None:
        known = [terms.get(name) for name in MEASURES]
        self._centres = np.array([term.centre if term else 0.0 for term in known])
        self._weights = np.array([term.weight / term.deviation if term else 0.0 for term in known])
        self._bias = bias
        self._growth = growth

    def expect(
        self, distance: int, flow: NDArray[np.float32], key_half: Image, frame_half: Image
    ) -> float:
        """Return the expected disagreement of a propagated frame, 0..1; see ``measure``.

        1 where the flow is not finite or meaningless: nothing is propagated then.
        """
        return self.expect_of(measure(distance, flow, key_half, frame_half))

    def expect_of(self, measures: NDArray[np.float64]) -> float:
        """Return the expected disagreement for the result of ``measure``."""
        total = self._bias + float(self._weights @ (measures - self._centres))
        return _sigmoid(total) if math.isfinite(total) else 1.0

    def foretell(self, expected: float, distance: int, later: int) -> float:
        """Return the disagreement to expect at another distance, if the motion goes on.

        Args:
            expected: at a distance, 0..1.
            distance: in frames, at least 1.
            later: the other distance.
        """
        return min(1.0, expected * math.pow(later / distance, self._growth))


def staleness_of(manifest: Manifest) -> Staleness | None:
    """Return a bundle's model of staleness, None where it has none."""
    model = manifest.staleness
    return None if model is None else Staleness(model.bias, model.terms, model.growth)


def _sigmoid(value: float) -> float:
    """Return ``1 / (1 + exp(-value))``, without overflow."""
    return 0.5 * (1 + math.tanh(value / 2))


def _small(half: Image, cells: tuple[int, ...]) -> NDArray[np.float32]:
    """Return a half-size frame at ``_PER_CELL`` samples a feature cell: means over areas."""
    size = (cells[1] * _PER_CELL, cells[0] * _PER_CELL)
    return np.asarray(cv2.resize(half[0], size, interpolation=cv2.INTER_AREA), np.float32)


def _carried(key: NDArray[np.float32], flow: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the small key frame moved by the flow; what comes from outside is its border."""
    height, width = key.shape[:2]
    fine = cv2.resize(flow * _PER_CELL, (width, height), interpolation=cv2.INTER_LINEAR)
    xs, ys = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    return np.asarray(
        cv2.remap(
            key,
            xs + fine[..., 0],
            ys + fine[..., 1],
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
    )


def _error(frame: NDArray[np.float32], carried: NDArray[np.float32]) -> float:
    """Return the mean difference of two small pictures, each channel as bright in both."""
    # OpenCV's sums: numpy's over a last axis of three take ten times as long.
    own, other = (np.array(cv2.mean(picture)[:3]) for picture in (frame, carried))
    lit = cv2.transform(carried, np.diag(own / np.maximum(other, 1)))
    return float(cv2.norm(frame, lit, cv2.NORM_L1)) / frame.size
