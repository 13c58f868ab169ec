"""Anchors that fit the boxes of one's data: k-means over IoU.

Source: Redmon and Farhadi, "YOLO9000", CVPR 2017, section 2, "Dimension Clusters".
Differs from it: R-FCN's anchors are all pairs of a scale and a ratio, so boxes are assigned to the
    pair that they overlap most, and each scale and each ratio becomes the median of its boxes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dff_edge.bundle.anchors import anchor_sizes
from dff_edge.bundle.rfcn import RfcnSettings
from dff_edge.data.datasets.labelled_clip import LabelledClip
from dff_edge.errors import DffEdgeError

GOOD_OVERLAP = 0.75  # mean IoU of boxes and their best anchors that is enough
_SCALES, _RATIOS = 5, 3  # most of each
_ROUNDS = 30
_CELL_PX = 16  # in which anchor_scales count
_MOST_FRAMES = 5000
_MOST_BOXES = 5000

Sizes = NDArray[np.float32]  # (n, 2) width and height


class AnchorProposal(NamedTuple):
    """Anchors, and the mean IoU of boxes with the best of them, each put where the box is."""

    scales: tuple[float, ...]
    ratios: tuple[float, ...]
    overlap: float

    @property
    def line(self) -> str:
        """The line of a training configuration, below ``model.task``."""
        return f"rfcn: {self._keys}"

    @property
    def setting(self) -> str:
        """The same for ``dff-edge train --set``, which keeps the other keys."""
        return f"rfcn={self._keys}"

    @property
    def _keys(self) -> str:
        scales, ratios = (
            ", ".join(f"{value:g}" for value in values) for values in (self.scales, self.ratios)
        )
        return f"{{anchor_scales: [{scales}], anchor_ratios: [{ratios}]}}"


def box_shares(clips: Sequence[LabelledClip]) -> Sizes:
    """Return the sizes of boxes as shares of their frames, ``(n, 2)``; no picture is opened.

    Boxes of up to 5000 frames, evenly spread, whose size the annotations state; ignored ones and
    those without an area are left out.
    """
    frames = [(clip, i) for clip in clips for i in range(len(clip)) if clip.is_labelled(i)]
    shares = [np.zeros((0, 2), np.float32)]
    for clip, index in frames[:: max(1, math.ceil(len(frames) / _MOST_FRAMES))]:
        try:
            truth = clip.boxes(index)
        except DffEdgeError:  # told where the data is opened
            continue
        if truth is None or truth.size is None:
            continue
        sides = (truth.boxes[:, 2:] - truth.boxes[:, :2])[~truth.ignored]
        height, width = truth.size
        kept = sides[(sides > 0).all(axis=1)] / np.array([width, height], np.float32)
        shares.append(np.asarray(kept, np.float32))
    return np.concatenate(shares)


def propose_anchors(sizes: Sizes) -> AnchorProposal | None:
    """Return the fewest anchors that overlap boxes well, or the best of 15; None without boxes.

    Args:
        sizes: of boxes in pixels of the network's frame, ``(n, 2)``.

    Example:
        >>> propose_anchors(np.float32([[64, 32], [66, 33], [128, 64]])).line
        'rfcn: {anchor_scales: [2.87, 5.66], anchor_ratios: [0.5]}'
    """
    if not len(sizes):
        return None
    sizes = sizes[:: max(1, math.ceil(len(sizes) / _MOST_BOXES))]
    grids = [(s, r) for s in range(1, _SCALES + 1) for r in range(1, _RATIOS + 1)]
    found = []
    for scales, ratios in sorted(grids, key=lambda grid: (grid[0] * grid[1], grid[1])):
        found.append(_fit(sizes, scales, ratios))
        if found[-1].overlap >= GOOD_OVERLAP:
            return found[-1]
    return max(found, key=lambda proposal: proposal.overlap)


def overlaps(sizes: Sizes, anchors: Sizes) -> Sizes:
    """Return the IoU of each box with each anchor ``(n, A)``, one put upon the other's centre."""
    shared = np.minimum(sizes[:, None], anchors[None]).prod(axis=2)
    union = sizes.prod(axis=1)[:, None] + anchors.prod(axis=1)[None] - shared
    return np.asarray(shared / union, np.float32)


def _fit(sizes: Sizes, scale_count: int, ratio_count: int) -> AnchorProposal:
    """Return the best of some rounds of k-means from quantiles."""
    scales_of = np.log(np.sqrt(sizes.prod(axis=1)) / _CELL_PX)
    ratios_of = np.log(sizes[:, 1] / sizes[:, 0])
    scales = np.quantile(scales_of, (np.arange(scale_count) + 0.5) / scale_count)
    ratios = np.quantile(ratios_of, (np.arange(ratio_count) + 0.5) / ratio_count)
    best = AnchorProposal((), (), -1.0)
    for _ in range(_ROUNDS):
        short = _short(scales), _short(ratios)
        settings = RfcnSettings(anchor_scales=short[0], anchor_ratios=short[1])
        iou = overlaps(sizes, anchor_sizes(settings))
        overlap = float(iou.max(axis=1).mean())
        if overlap > best.overlap:
            best = AnchorProposal(*short, overlap)
        nearest = iou.argmax(axis=1)
        scales = _medians(scales, scales_of, nearest % scale_count)
        ratios = _medians(ratios, ratios_of, nearest // scale_count)
    return best


def _medians(
    before: NDArray[np.float64], values: NDArray[np.float64], owner: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Return the median of the values of each owner; one without values stays."""
    return np.array(
        [
            np.median(values[owner == n]) if (owner == n).any() else value
            for n, value in enumerate(before)
        ]
    )


def _short(logarithms: NDArray[np.float64]) -> tuple[float, ...]:
    """Return the values of logarithms with three digits, within the limits of ``RfcnSettings``."""
    return tuple(float(f"{min(max(v, 0.001), 100.0):.3g}") for v in np.exp(logarithms))
