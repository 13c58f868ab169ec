"""Clips whose frames are image files, and the listing of a data set's folders."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dff_edge.boxes import TrueBoxes
from dff_edge.data.datasets.labelled_clip import LabelledClip
from dff_edge.errors import SourceError
from dff_edge.files.regular import read_regular
from dff_edge.frames import Image, LabelMap
from dff_edge.opencv import cv2
from dff_edge.runtime.sources.images import read_image

_MAX_IMAGE_BYTES = 1 << 30


class FilesClip:
    """Consecutive frames that are image files; see ``LabelledClip``.

    A million frames are kept in memory and sent to workers, so files are names, not paths.

    Args:
        name: of the clip.
        folder: of the frames.
        images: their files in order, below ``folder``.
        truth_folder: of the labels or boxes.
        truths: their files by index of the frame; those frames count as labelled.
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

    def image_path(self, index: int) -> Path:
        """Return the file of a frame."""
        return self.folder / self.images[index]

    def truth_path(self, index: int) -> Path:
        """Return the file of the labels or boxes of a labelled frame."""
        return self.truth_folder / self.truths[index]

    def image(self, index: int) -> Image:
        """Return a frame as it is stored, without EXIF rotation.

        Raises:
            FrameError: the file is damaged or gone.
        """
        return read_image(self.image_path(index), as_stored=True)

    def is_turned(self, index: int) -> bool:
        """Return whether EXIF orientation makes viewers show a frame differently from its pixels.

        Raises:
            SourceError: the file cannot be read.
        """
        data = read_regular(
            self.image_path(index), max_bytes=_MAX_IMAGE_BYTES, what="an image", error=SourceError
        )
        grey = cv2.IMREAD_GRAYSCALE
        shown, stored = (
            cv2.imdecode(np.frombuffer(data, np.uint8), flags)
            for flags in (grey, grey | cv2.IMREAD_IGNORE_ORIENTATION)
        )
        return shown is not None and stored is not None and not np.array_equal(shown, stored)

    def is_labelled(self, index: int) -> bool:
        """Return whether a file belongs to the frame."""
        return index in self.truths

    def where(self, index: int) -> str:
        """Return the file of a frame's labels, or of the frame where it has none."""
        return str(self.truth_path(index) if index in self.truths else self.image_path(index))

    def labels(self, index: int) -> LabelMap | None:
        """Return None where a data set has no label maps."""
        return None

    def boxes(self, index: int) -> TrueBoxes | None:
        """Return None where a data set has no boxes."""
        return None

    def flow(self, current: int, key: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]] | None:
        """Return None: the true flow of real video is unknown."""
        return None


@dataclass
class Listing:
    """Contents of a data set's folders.

    Attributes:
        clips: usable clips.
        problems: unusable files, a line each.
    """

    clips: list[LabelledClip]
    problems: list[str] = field(default_factory=list)


def missing_folder(root: Path, expected: str, where_from: str) -> SourceError:
    """Return the error for a data set that is not in the given folder."""
    if root.is_dir():
        return SourceError(f"'{root}' has no folder {expected}. {where_from}")
    return SourceError(f"There is no folder '{root}', expected it to hold {expected}. {where_from}")


class Entries(NamedTuple):
    """Names in a folder in order, without hidden ones.

    Attributes:
        files: regular files, and links to them.
        folders: folders, and links to them.
        others: links to nowhere, pipes, devices.
    """

    files: list[str]
    folders: list[str]
    others: list[str]


def list_folder(folder: Path) -> Entries:
    """Return the contents of a folder.

    Raises:
        SourceError: it cannot be read.
    """
    found = Entries([], [], [])
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                _kind_of(entry, found).append(entry.name)
    except OSError as error:
        raise SourceError(f"The folder '{folder}' cannot be read: {error.strerror}.") from error
    for names in found:
        names.sort()
    return found


def _kind_of(entry: os.DirEntry[str], found: Entries) -> list[str]:
    try:
        if entry.is_file():
            return found.files
        return found.folders if entry.is_dir() else found.others
    except OSError:  # links in a circle
        return found.others


def by_stem(folder: Path, names: Iterable[str], what: str) -> dict[str, str]:
    """Return names by their stem, in the order given.

    Args:
        folder: that holds them.
        names: of files.
        what: a noun for them, in the error.

    Raises:
        SourceError: two have one stem, which is therefore ambiguous.
    """
    found: dict[str, str] = {}
    for name in names:
        first = found.setdefault(Path(name).stem, name)
        if first != name:
            raise SourceError(
                f"'{folder}' holds both '{first}' and '{name}', expected one of {what} of a stem: "
                "frames and labels belong together by it. Remove or rename one."
            )
    return found


def some(names: Sequence[str], what: str) -> str:
    """Return the number and the first of some names: "3 PNGs (a.png first)"."""
    return f"{len(names)} {what} ({names[0]}{' first' if len(names) > 1 else ''})"
