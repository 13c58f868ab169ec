"""How stale an answer is: the share of it that is expected to differ from the full network's now.

Propagation is wrong where the flow is, and where something came into view: long and ragged flow,
and a warped key frame that does not look like the frame tell of it, and so do low scores, where
the task network has any. Each is one number of a frame, taken from what was read and computed for
it anyway; a model in the bundle, fitted without labels (``dff_edge.calibration.staleness``), makes
a prediction of them. The scale field adds nothing beside them, and would have to be copied from a
GPU.

Related: Li et al., Low-Latency Video Semantic Segmentation, CVPR 2018, and Xu et al., Dynamic Video
    Segmentation Network, CVPR 2018, train a network of its own for this.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dff_edge.bundle.manifest import Manifest
from dff_edge.bundle.staleness import MEASURES, Measure, Term
from dff_edge.detection_matching import LEAST_SCORE
from dff_edge.frames import Image
from dff_edge.opencv import cv2
from dff_edge.runtime.kernels.resize import resize_image
from dff_edge.runtime.tasks.decoders import Answer

_FAR = 1e6  # cells; a longer flow leads nowhere
_PER_CELL = 2  # samples of the half-size frames, on each side of a feature cell
_SUM = np.ones((1, 2), np.float32)  # of two channels, as a transform

# Below, a measure is noise: grain of a camera, rounding of a flow.
_FLOORS: Mapping[Measure, float] = {
    "distance": 0.5,
    "flow": 0.01,
    "flow_spread": 0.01,
    "error": 0.5,
    "doubt": 0.02,
}


def small_picture(half: Image, cells: tuple[int, ...]) -> NDArray[np.float32]:
    """Return a frame at ``_PER_CELL`` samples on each side of a feature cell, levels of 255.

    Args:
        half: uint8 ``(1, H/2, W/2, 3)``, what the flow network has read.
        cells: ``(h, w)`` of the feature map.
    """
    small = np.empty((cells[0] * _PER_CELL, cells[1] * _PER_CELL, 3), np.uint8)
    resize_image(half[0], small)
    return small.astype(np.float32)


def measure_motion(
    distance: int,
    flow: NDArray[np.float32],
    key: NDArray[np.float32],
    frame: NDArray[np.float32],
) -> tuple[float, ...]:
    """Measure how a propagated frame has moved.

    Args:
        distance: captured frames from the key frame to it, at least 1.
        flow: ``(1, h, w, 2)`` in feature cells, from the frame to the key frame.
        key, frame: the two as ``small_picture``.

    Returns:
        Logarithms of the ``MEASURES`` but the last: distance in frames; mean length of the flow,
        and of its slope, in feature cells; mean difference between the frame and the key frame
        moved by the flow, in levels of 255, where a change of the light is made up for. NaN where
        the flow is not finite, or meaningless.
    """
    moved = flow[0]
    if not np.abs(moved).max() < _FAR:  # nor is a NaN
        return (math.nan,) * (len(MEASURES) - 1)
    values: dict[Measure, float] = {
        "distance": distance,
        "flow": _mean(cv2.magnitude(*cv2.split(moved))),
        "flow_spread": _slope(moved),
        "error": _error(frame, _carried(key, moved)),
    }
    return tuple([math.log(values[name] + _FLOORS[name]) for name in MEASURES[:-1]])


def sum_of_scores(answer: Answer) -> float:
    """Return the scores of what may be objects, together: about their number; 0 without scores."""
    return float(_scores(answer).sum())


def doubt(answer: Answer, most: float) -> float:
    """Return how little sure an answer is, 0..1; 0 where it does not tell, as label maps.

    It is 1 less the mean score, each weighted by itself so that the best ones count; less where
    there is not even one object to be in doubt about.

    Args:
        answer: to a propagated frame.
        most: the largest ``sum_of_scores`` so far of an answer from the same key frame: what is
            not found any more is in doubt too.
    """
    scores = _scores(answer)
    total = float(scores.sum())
    unsure = 1 - float(scores @ scores) / total if total else 1.0
    return max(unsure, 0.0) * min(max(total, most), 1.0)


def with_doubt(motion: tuple[float, ...], answer: Answer, most: float) -> tuple[float, ...]:
    """Return all ``MEASURES`` of a propagated frame: how it has moved, and its answer's doubt."""
    return *motion, math.log(doubt(answer, most) + _FLOORS[MEASURES[-1]])


class Staleness:
    """Predicts how stale answers are.

    Args:
        bias, terms, growth: see ``StalenessModel``.
    """

    def __init__(self, bias: float, terms: Mapping[Measure, Term], growth: float = 1.0) -> None:
        self._terms = [
            (n, term.centre, term.weight / term.deviation)
            for n, name in enumerate(MEASURES)
            if (term := terms.get(name)) is not None
        ]
        self._bias = bias
        self._growth = growth

    def expect(self, motion: tuple[float, ...], answer: Answer, most: float) -> float:
        """Return the expected disagreement of a propagated frame, 0..1.

        1 where the flow is not finite or meaningless: nothing is propagated then.

        Args:
            motion: its ``measure_motion``.
            answer: to it.
            most: see ``doubt``.
        """
        return self.expect_of(with_doubt(motion, answer, most))

    def expect_of(self, measures: Sequence[float]) -> float:
        """Return the expected disagreement for the result of ``with_doubt``."""
        if not all(map(math.isfinite, measures)):
            return 1.0
        total = self._bias
        for n, centre, weight in self._terms:
            total += weight * (measures[n] - centre)
        return _sigmoid(total)

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


def _scores(answer: Answer) -> NDArray[np.float64]:
    found = answer.detections
    return np.zeros(0) if found is None else found.above(LEAST_SCORE).scores.astype(np.float64)


def _sigmoid(value: float) -> float:
    """Return ``1 / (1 + exp(-value))``, without overflow."""
    return 0.5 * (1 + math.tanh(value / 2))


# Below, OpenCV in place of numpy where that takes several times as long: over axes of two or three
# numbers. A small network's frame takes little more than a millisecond.


def _mean(values: NDArray[Any]) -> float:
    return float(cv2.mean(values)[0])


def _slope(flow: NDArray[np.float32]) -> float:
    """Return the mean length of the flow's slope, to the right and down together."""
    own = flow[:-1, :-1]
    right, down = flow[:-1, 1:] - own, flow[1:, :-1] - own
    return _mean(cv2.sqrt(cv2.transform(right * right + down * down, _SUM)))


@lru_cache(maxsize=8)
def _grid(height: int, width: int) -> NDArray[np.float32]:
    """Return the place of each sample, ``(height, width, 2)`` as x, y."""
    rows, columns = np.indices((height, width), np.float32)
    return np.ascontiguousarray(np.stack([columns, rows], axis=-1))


def _carried(key: NDArray[np.float32], flow: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the small key frame moved by the flow; what comes from outside is its border."""
    height, width = key.shape[:2]
    fine = cv2.resize(flow, (width, height), interpolation=cv2.INTER_LINEAR)
    places = cv2.scaleAdd(fine, _PER_CELL, _grid(height, width))
    carried = cv2.remap(  # type: ignore[call-overload]  # OpenCV's stubs know no map of x and y
        key, places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(carried)


def _error(frame: NDArray[np.float32], carried: NDArray[np.float32]) -> float:
    """Return the mean difference of two small pictures, each channel as bright in both."""
    brighter = np.zeros((3, 3))
    for channel, (own, other) in enumerate(zip(cv2.mean(frame), cv2.mean(carried), strict=True)):
        if channel < 3:  # OpenCV tells four
            brighter[channel, channel] = own / max(other, 1.0)
    lit = cv2.transform(carried, brighter)
    return float(cv2.norm(frame, lit, cv2.NORM_L1)) / frame.size
