"""Labelled clips of noise for the tests of reports: nothing to draw, nothing to learn."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from dff_edge.frames import Image, LabelMap


class NoiseClip:
    """Frames and labels of noise; frames differ, so that answers do."""

    def __init__(
        self, seed: int, length: int = 5, size: tuple[int, int] = (40, 72), classes: int = 3
    ) -> None:
        rng = np.random.default_rng(seed)
        self.name = f"noise-{seed}"
        self._images = rng.integers(0, 256, (length, *size, 3), np.uint8)
        self._labels = rng.integers(0, classes, (length, *size), np.uint8)

    def __len__(self) -> int:
        return len(self._images)

    def image(self, index: int) -> Image:
        return self._images[index]

    def is_labelled(self, index: int) -> bool:
        return True

    def where(self, index: int) -> str:
        return f"{self.name}, frame {index}"

    def labels(self, index: int) -> LabelMap | None:
        return self._labels[index]

    def boxes(self, index: int) -> None:
        return None

    def flow(self, current: int, key: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]] | None:
        height, width = self._labels.shape[1:]
        return np.zeros((height, width, 2), np.float32), np.zeros((height, width), np.bool_)


class UnlabelledClip(NoiseClip):
    """Frames whose pixels are all marked as not labelled."""

    def labels(self, index: int) -> LabelMap | None:
        return np.full_like(self._labels[index], 255)


def write_clips(root: Path, clips: list[NoiseClip]) -> Path:
    """Write clips as a folder with images/ and labels/."""
    for clip in clips:
        for kind in ("images", "labels"):
            (root / kind / clip.name).mkdir(parents=True)
        for index in range(len(clip)):
            cv2.imwrite(str(root / "images" / clip.name / f"{index}.png"), clip.image(index))
            cv2.imwrite(str(root / "labels" / clip.name / f"{index}.png"), clip.labels(index))
    return root
