"""Clips whose frames are in a video file, with boxes beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dff_edge.boxes import TrueBoxes
from dff_edge.data.datasets.video_file import read_video_frame, stated_frames
from dff_edge.errors import SourceError
from dff_edge.frames import Image, LabelMap


class VideoClip:
    """A video file; see ``LabelledClip``.

    Frames are upright and their pixels square, as the runtime reads them and players show them.

    Args:
        name: of the clip.
        path: of the video.
        length: number of its frames.
        annotations: the file that the boxes are from, for messages.
        objects: boxes by number of the frame; those frames count as labelled.
    """

    def __init__(
        self,
        name: str,
        path: Path,
        length: int,
        annotations: Path,
        objects: Mapping[int, TrueBoxes],
    ) -> None:
        self.name = name
        self.path, self.annotations = path, annotations
        self._length, self._objects = length, objects

    def __len__(self) -> int:
        return self._length

    def image(self, index: int) -> Image:
        """Return a frame.

        Raises:
            FrameError: it is damaged, or the file ends before it.
            SourceError: the file cannot be read.
        """
        return read_video_frame(self.path, index)

    def is_labelled(self, index: int) -> bool:
        """Return whether the annotations name the frame."""
        return index in self._objects

    def where(self, index: int) -> str:
        """Return the annotations, the video and the frame."""
        return f"{self.annotations}, {self.path.name}, frame {index}"

    def labels(self, index: int) -> LabelMap | None:
        """Return None: there are boxes."""
        return None

    def boxes(self, index: int) -> TrueBoxes | None:
        """Return the boxes of a frame, None where it is not labelled."""
        return self._objects.get(index)

    def flow(self, current: int, key: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]] | None:
        """Return None: the true flow of real video is unknown."""
        return None


def open_clip(
    name: str,
    path: Path,
    annotations: Path,
    objects: Mapping[int, TrueBoxes],
    problems: list[str],
) -> VideoClip | None:
    """Return the clip of a video file, None where it has no labelled frame.

    Only the file's header is read. It states the number of frames in most formats; else the clip
    ends with its last label.

    Args:
        name: of the clip.
        path: of the video.
        annotations: file of the boxes.
        objects: boxes by number of the frame.
        problems: gets a line for labels that are left out, and where the file cannot be read.
    """
    try:
        stated = stated_frames(path)
    except SourceError as error:
        problems.append(f"{error} The video is left out")
        return None
    wanted = max(objects, default=-1) + 1
    length = stated or wanted
    beyond = [number for number in objects if not 0 <= number < length]
    if beyond:
        problems.append(
            f"{path} has {length} frames, and {annotations.name} has labels of {len(beyond)} "
            f"others ({min(beyond)} to {max(beyond)}, counted from 0): they are left out. Is it "
            "the video that was labelled?"
        )
    kept = {number: boxes for number, boxes in objects.items() if 0 <= number < length}
    return VideoClip(name, path, length, annotations, kept) if kept else None
