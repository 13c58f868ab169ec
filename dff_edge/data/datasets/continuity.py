"""Detection of unrelated pictures among the frames of a clip.

Propagation learns and is calibrated on pairs of frames, and only the pictures tell a folder of
stills from a video. Two frames are related if optical flow carries them to each other and back:
of the pixels, weighted by their contrast, at least 40% return to within a pixel, at 192 pixels
on the longer side. Where flow has no match it invents one, which does not lead back.

`python benchmarks/continuity.py --source ...` measures it: neighbours in rendered streets reach
0.9 and more, in the dark too, other streets and noise at most 0.38; CamVid, from a car, reaches
0.83 and more at 7 Hz, 0.6 at 3 Hz, and at 1 Hz anything from 0.06 to 0.86.

Source: forward-backward consistency, as in Sundaram et al., Dense Point Trajectories by
    GPU-accelerated Large Displacement Optical Flow, ECCV 2010; the flow is DIS (Kroeger et al.,
    ECCV 2016), OpenCV's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dff_edge.frames import Image
from dff_edge.opencv import cv2

MIN_CARRIED = 0.4  # share of pixels that must return, for two frames to be related
MOST_PAIRS = 32

_SIDE_PX = 192
_LEAST_SIDE_PX = 32  # OpenCV's DIS crashes on smaller ones beside a long side
_NEAR_PX = 1.0


class Frames(Protocol):
    """Consecutive frames of one video."""

    name: str

    def __len__(self) -> int: ...

    def image(self, index: int) -> Image:
        """Return frame ``index``, uint8 ``(H, W, 3)`` BGR."""
        ...


@dataclass
class Continuity:
    """Numbers of pairs of neighbouring frames that were compared.

    Attributes:
        pairs: all of them.
        unrelated: those without a common content, by clip and frame.
    """

    pairs: int = 0
    unrelated: list[str] = field(default_factory=list)

    def add(self, clip: str, index: int, before: Image, frame: Image) -> None:
        """Count a pair: frames ``index - 1`` and ``index`` of a clip."""
        self.pairs += 1
        if carried_share(before, frame) < MIN_CARRIED:
            self.unrelated.append(f"frames {index - 1} and {index} of '{clip}'")

    @property
    def share(self) -> float:
        """Share of the pairs that are unrelated, 0 where there are none."""
        return len(self.unrelated) / max(self.pairs, 1)


def measure_continuity(clips: Sequence[Frames], most: int = MOST_PAIRS) -> Continuity:
    """Return how related neighbouring frames of some clips are.

    Args:
        clips: of frames, which are read in rising order.
        most: maximum number of pairs, evenly spread.
    """
    places = [(number, i) for number, clip in enumerate(clips) for i in range(1, len(clip))]
    found = Continuity()
    for place in np.linspace(0, len(places) - 1, min(most, len(places))).round().astype(int):
        number, index = places[place]
        clip = clips[number]
        found.add(clip.name, index, clip.image(index - 1), clip.image(index))
    return found


def carried_share(first: Image, second: Image) -> float:
    """Return the share of ``first`` that flow carries to ``second`` and back, 0..1.

    Args:
        first: uint8 ``(H, W, 3)`` BGR.
        second: the same; of another size nothing is carried.
    """
    if first.shape != second.shape:
        return 0.0
    small, other = _small(first), _small(second)
    solver = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    there = np.asarray(solver.calc(small, other, np.zeros((*small.shape, 2), np.float32)))
    back = np.asarray(solver.calc(other, small, np.zeros((*small.shape, 2), np.float32)))
    ys, xs = np.mgrid[: small.shape[0], : small.shape[1]].astype(np.float32)
    x, y = xs + there[..., 0], ys + there[..., 1]
    is_inside = (x >= 0) & (y >= 0) & (x <= small.shape[1] - 1) & (y <= small.shape[0] - 1)
    returned = there + cv2.remap(back, x, y, cv2.INTER_LINEAR)
    is_near = is_inside & (np.hypot(returned[..., 0], returned[..., 1]) < _NEAR_PX)
    # One level more everywhere: a frame without contrast stays where it is.
    weight = 1 + _contrast(small)
    return float(weight[is_near].sum() / weight.sum())


def _small(image: Image) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    factor = _SIDE_PX / max(height, width)
    size = [max(_LEAST_SIDE_PX, round(side * factor)) for side in (width, height)]
    grey = cv2.cvtColor(cv2.resize(image, size, interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2GRAY)
    return np.asarray(grey, np.uint8)


def _contrast(grey: NDArray[np.uint8]) -> NDArray[np.float32]:
    slope_x, slope_y = (cv2.Sobel(grey, cv2.CV_32F, *order) for order in ((1, 0), (0, 1)))
    return np.asarray(np.hypot(slope_x, slope_y), np.float32)
