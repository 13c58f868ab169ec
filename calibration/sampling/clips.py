"""Clips to calibrate on: consecutive frames, labelled or not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Protocol

from dff_edge.data.clips import open_clips
from dff_edge.data.datasets import DATA_SETS
from dff_edge.data.datasets.folder import is_labelled_folder
from dff_edge.errors import CalibrationError
from dff_edge.frames import Frame, Image
from dff_edge.hiding import hide_credentials
from dff_edge.runtime.sources import Source, open_source
from dff_edge.runtime.sources.several import expand_sources

# Maximum number of frames of one video: ten seconds and more, counted in one pass over it.
MAX_FRAMES = 300


class Clip(Protocol):
    """Consecutive frames of one video; every ``LabelledClip`` is one."""

    name: str

    def __len__(self) -> int: ...

    def image(self, index: int) -> Image:
        """Return frame ``index``, uint8 ``(H, W, 3)`` BGR."""
        ...


class FramesClip:
    """The first frames of a video file, an image folder or a synthetic scene, as a clip.

    Frames are decoded on request, and not kept. Reading in rising order decodes
    each once; going back opens the source again.

    Args:
        uri: as for ``open_source``.
        max_frames: maximum number of frames.

    Raises:
        CalibrationError: a live source: calibration reads its frames more than once.
        SourceError: as ``open_source``.
    """

    def __init__(self, uri: str, max_frames: int = MAX_FRAMES) -> None:
        self.name = hide_credentials(uri)
        self._uri = uri
        self._source: Source | None = None
        self._frames: Iterator[Frame] = iter(())
        self._next = 0
        with open_source(uri) as source:
            if source.live:
                raise CalibrationError(
                    f"'{self.name}' is live, expected a video file or a folder of images: "
                    "calibration reads frames more than once. Record some seconds and calibrate on "
                    "them."
                )
            self._length = sum(1 for _ in islice(source, max_frames))

    def __len__(self) -> int:
        return self._length

    def image(self, index: int) -> Image:
        """Return frame ``index``, uint8 ``(H, W, 3)`` BGR."""
        if not 0 <= index < self._length:
            raise IndexError(f"frame {index} of a clip of {self._length}")
        if self._source is None or index < self._next:
            self.close()
            self._source = open_source(self._uri)
            self._frames, self._next = iter(self._source), 0
        for frame in self._frames:
            self._next += 1
            if self._next > index:
                return frame.image
        raise CalibrationError(
            f"'{self.name}' ended after {self._next} frames, {self._length} were there before. "
            "Is it still being written?"
        )

    def close(self) -> None:
        """Close the source; reading another frame opens it again."""
        if self._source is not None:
            self._source.close()
            self._source = None


def open_calibration_clips(uri: str) -> Sequence[Clip]:
    """Open clips by name; labels are not needed, and ignored if present.

    Args:
        uri: labelled data as for ``open_clips``, a video file, a folder or glob of images, or one
            of videos, each of which is a clip.

    Raises:
        CalibrationError, ConfigError, SourceError: it is not one of these, or cannot be read.
    """
    scheme, is_name, _ = uri.partition("://")
    if (is_name and scheme in ("synthetic", *DATA_SETS)) or is_labelled_folder(uri):
        return open_clips(uri)
    return [FramesClip(source) for source in expand_sources([uri])]
