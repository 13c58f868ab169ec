"""Cuts of the scene, seen before anything is computed: from a few thousand pixels of each frame.

Nothing can be propagated across a cut, and the flow network's answer would come too late to keep a
frame from being answered by features of another scene.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dff_edge.frames import Frame, Image

# Seconds between two frames; further apart, fast motion changes a picture as much as a cut does.
_NEAR_S = 0.07
_SAMPLES = (48, 64)  # rows and columns of pixels that are looked at, about
_BLOCKS = (3, 4)
_BINS = 16
_WEIGHTS = np.array([0.114, 0.587, 0.299])  # of blue, green and red in brightness, ITU-R BT.601
# Between what motion changes and what another scene does: cut_motion and cut_scene of
# benchmarks/staleness.py.
MIN_CHANGED = 0.25


class CutDetector:
    """Compares each frame with the one before it.

    The picture is divided in blocks, and each has a histogram of brightness. Motion of camera and
    objects moves little of it from one frame to the next, a cut most of it.
    """

    def __init__(self) -> None:
        self._before: tuple[float, NDArray[np.float64]] | None = None

    def is_cut(self, frame: Frame) -> bool:
        """Return whether a frame shows another scene than the one before it.

        False for the first, for one more than 0.07 s after the one before, which the camera's
        motion alone may have changed as much, and for images in a GPU's memory, which are not
        looked at.
        """
        if not isinstance(frame.image, np.ndarray):
            return False
        found = histograms(frame.image)
        before, self._before = self._before, (frame.stamp_s, found)
        if before is None or frame.stamp_s - before[0] > _NEAR_S:
            return False
        return changed_share(before[1], found) > MIN_CHANGED


def histograms(image: Image) -> NDArray[np.float64]:
    """Return the histograms of brightness of a picture's blocks, ``(12, 16)``, each of sum 1.

    Each pixel counts for the two nearest of the bins, so that a little more light moves little.

    Args:
        image: uint8 ``(H, W, 3)`` BGR.
    """
    steps = [max(1, side // samples) for side, samples in zip(image.shape, _SAMPLES, strict=False)]
    some = image[steps[0] // 2 :: steps[0], steps[1] // 2 :: steps[1]]
    rows, columns = some.shape[:2]
    grey = some.astype(np.float64) @ _WEIGHTS
    places = grey * ((_BINS - 1) / 255)
    lower = np.minimum(places.astype(np.int64), _BINS - 2)
    block = (
        np.arange(rows)[:, None] * _BLOCKS[0] // rows * _BLOCKS[1]
        + np.arange(columns) * _BLOCKS[1] // columns
    )
    first = block * _BINS + lower
    upper_share = places - lower
    size = _BLOCKS[0] * _BLOCKS[1] * _BINS
    counts = np.bincount(first.ravel(), (1 - upper_share).ravel(), size)
    counts += np.bincount(first.ravel() + 1, upper_share.ravel(), size)
    counts = counts.reshape(-1, _BINS)
    return np.asarray(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))


def changed_share(before: NDArray[np.float64], after: NDArray[np.float64]) -> float:
    """Return the share of two pictures' pixels whose brightness is not found in the other, 0..1.

    Half the sum of differences of their histograms, in the mean of the blocks.
    """
    return float(np.abs(after - before).sum(axis=1).mean() / 2)
