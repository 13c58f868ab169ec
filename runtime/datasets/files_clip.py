"""Clips whose frames are image files, and what a look at a data set's folders gives."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dff_edge.runtime.boxes import TrueBoxes
from dff_edge.runtime.errors import SourceError
from dff_edge.runtime.frames import Image, LabelMap
from dff_edge.runtime.opencv import cv2
from dff_edge.runtime.sources.images import read_image


class FilesClip:
    """Consecutive frames that are image files; see ``LabelledClip``.

    A million frames are kept in memory and sent to workers, so files are names, not paths.

    Args:
        name: of the clip.
        folder: of the frames.
        images: their files in order, below ``folder``.
        truth_folder: of what is true of frames.
        truths: its files by index of the frame; those frames count as labelled.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        images: Sequence[str],
        truth_folder: Path,
        truths: Mapping[int, str],
    ) -> None:
        self.name = name
        self.folder, self.images = folder, [sys.intern(image) for image in images]
        self.truth_folder = truth_folder
        self.truths = {index: sys.intern(truth) for index, truth in truths.items()}

    def __len__(self) -> int:
        return len(self.images)

    def truth_path(self, index: int) -> Path:
        """Give the file of what is true of a labelled frame."""
        return self.truth_folder / self.truths[index]

    def image(self, index: int) -> Image:
        """Read a frame, as it is stored: EXIF rotation is passed over.

        Raises:
            FrameError: the file is damaged or gone.
        """
        return read_image(self.folder / self.images[index], as_stored=True)

    def is_labelled(self, index: int) -> bool:
        """Say whether a file belongs to the frame."""
        return index in self.truths

    def labels(self, index: int) -> LabelMap | None:
        """Give None where a data set has no label maps."""
        return None

    def boxes(self, index: int) -> TrueBoxes | None:
        """Give None where a data set has no boxes."""
        return None

    def flow(self, current: int, key: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]] | None:
        """Give None: nobody knows the true flow of real video."""
        return None


@dataclass
class Listing:
    """What a look at the folders of a data set gave.

    Attributes:
        clips: what can be used.
        problems: what cannot be used, a line each.
    """

    clips: list[FilesClip]
    problems: list[str] = field(default_factory=list)


def missing_folder(root: Path, expected: str, where_from: str) -> SourceError:
    """Make the error for a data set that is not where it was said to be."""
    if root.is_dir():
        return SourceError(f"'{root}' has no folder {expected}. {where_from}")
    return SourceError(f"There is no folder '{root}', expected it to hold {expected}. {where_from}")


def list_names(folder: Path) -> list[str]:
    """Names in a folder in order, without hidden ones."""
    return sorted(name for name in os.listdir(folder) if not name.startswith("."))


def read_label_png(path: Path) -> LabelMap:
    """Read label numbers, uint8 ``(H, W)``.

    Raises:
        SourceError: it is no 8-bit PNG with one channel.
    """

    labels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if labels is None or labels.ndim != 2 or labels.dtype != np.uint8:
        got = "missing or damaged" if labels is None else f"{labels.dtype} {labels.shape}"
        raise SourceError(f"{path} is {got}, expected an 8-bit PNG with one channel of label ids.")
    return np.asarray(labels, np.uint8)
