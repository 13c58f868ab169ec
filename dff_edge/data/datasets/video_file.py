"""Frames of a video file by their number, in any order.

A frame has the number and the pixels that it has where the file is read from its start
(``runtime/sources/files``). A file is read on where the next frame is wanted. For another, decoding
starts at the key frame before it, found by the times of the file's packets, and goes on until the
frame with the wanted time comes. Where that is not safe, the file is decoded from its start:

- containers without times of presentation (AVI, raw streams), or with a time that comes twice
- codecs whose packets need not be a picture each (VP8, VP9, AV1: some are never shown)
- a picture that does not come after seeking, as where it refers to pictures before the key frame
"""

from __future__ import annotations

import bisect
import logging
import os
from collections import OrderedDict
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import av.error

from dff_edge.errors import FrameError, SourceError
from dff_edge.frames import Image
from dff_edge.runtime.sources.decoding.tracks import pick_track
from dff_edge.runtime.sources.files import VideoFileSource, open_container
from dff_edge.uri import SourceUri

_CACHE_BYTES = 1 << 26  # of a file's last frames; of a pair the key frame is wanted last
_LEAST_CACHED = 2
_MOST_OPEN = 4
_ONE_PICTURE_A_PACKET = frozenset({"dnxhd", "ffv1", "h264", "hevc", "mjpeg", "mpeg4", "prores"})
_WITH_TIMES = frozenset({"matroska", "mov", "mpegts"})  # and key frames can be found by them

_log = logging.getLogger("dff_edge.data")


class _Index(NamedTuple):
    """Frames of a file by the times of its packets.

    Attributes:
        stamps: of each frame in seconds from the start of the stream, rising.
        keys: numbers of the key frames, rising.
        starts: time by which the container finds each key frame, in the unit of the track.
    """

    stamps: list[float]
    keys: list[int]
    starts: list[int]


class VideoFile:
    """An open video file; see the head of this file.

    Args:
        path: the file.

    Raises:
        SourceError: it is missing, or no video.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._index = _read_index(path, *_version(path))
        stamps = [] if self._index is None else self._index.stamps
        self._numbers = {stamp: number for number, stamp in enumerate(stamps)}
        self._images: OrderedDict[int, Image] = OrderedDict()
        self._source: VideoFileSource | None = None
        self._next = 0  # number of the source's next frame, at least

    def image(self, number: int) -> Image:
        """Return a frame, uint8 ``(H, W, 3)`` BGR.

        Raises:
            FrameError: the file has no such frame, or it is damaged.
            SourceError: the file cannot be read.
        """
        if number in self._images:
            self._images.move_to_end(number)
            return self._images[number]
        place = 0 if self._index is None else bisect.bisect_right(self._index.keys, number) - 1
        key = 0 if self._index is None or place < 0 else self._index.keys[place]
        if self._source is None or not key <= self._next <= number:
            self._start(place if key else None)
            self._next = key
        if not self._read_to(number) and self._index is not None:
            _log.info("%s: from frame %d on it is decoded from its start", self._path, number)
            self._index = None
            self._start(None)
            self._next = 0
            self._read_to(number)
        if number not in self._images:
            raise FrameError(
                f"'{self._path}' has no frame {number}, or it is damaged; frames are counted from "
                "0. `dff-edge data check` compares labels and files."
            )
        return self._images[number]

    def close(self) -> None:
        """Close the file; it is opened again when it is read."""
        if self._source is not None:
            self._source.close()
            self._source = None

    def _start(self, place: int | None) -> None:
        """Open the file at a key frame, or at its start."""
        self.close()
        start = None if place is None or self._index is None else self._index.starts[place]
        uri = SourceUri(str(self._path), "video", str(self._path))
        self._source = _PartOfFile(uri, start=start)

    def _read_to(self, number: int) -> bool:
        """Decode until a frame, and keep the last ones; return whether it came."""
        assert self._source is not None
        for frame in self._source:
            found: int | None = frame.index
            if self._index is not None:
                found = self._numbers.get(frame.stamp_s)
                if found is None:  # a picture before the key frame, or a file that lies
                    continue
            assert found is not None
            self._keep(found, frame.image)
            self._next = found + 1
            if found >= number:
                return found == number
        self.close()
        return False

    def _keep(self, number: int, image: Image) -> None:
        self._images[number] = image
        self._images.move_to_end(number)
        most = max(_CACHE_BYTES // max(image.nbytes, 1), _LEAST_CACHED)
        while len(self._images) > most:
            self._images.popitem(last=False)


class _PartOfFile(VideoFileSource):
    """A file read from somewhere: pictures that lack those before them are no news."""

    def _skip(self, what: str) -> None:
        self.counts.fail(what)


_open: OrderedDict[tuple[Path, int, int], VideoFile] = OrderedDict()


def read_video_frame(path: Path, number: int) -> Image:
    """Return a frame of a video file, uint8 ``(H, W, 3)`` BGR; the last files stay open.

    Raises:
        FrameError, SourceError: as ``VideoFile.image``.
    """
    version = (path, *_version(path))
    if version not in _open:
        _open[version] = VideoFile(path)
        if len(_open) > _MOST_OPEN:
            _open.popitem(last=False)[1].close()
    _open.move_to_end(version)
    return _open[version].image(number)


def stated_frames(path: Path) -> int | None:
    """Return the number of frames that a video file's header states, None where it states none.

    Raises:
        SourceError: the file is missing, or no video.
    """
    with open_container(str(path)) as container:
        return pick_track(container, str(path), None).frames or None


def _version(path: Path) -> tuple[int, int]:
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise SourceError(f"'{path}' cannot be read: {reason}; expected a video file.") from error
    return status.st_mtime_ns, status.st_size


@lru_cache(maxsize=1024)
def _read_index(path: Path, _changed_ns: int, _bytes: int) -> _Index | None:
    """Return the index of a file, None where only decoding tells its frames."""
    with open_container(str(path)) as container:
        track = pick_track(container, str(path), None)
        formats = set(container.format.name.split(","))
        if track.codec_context.name not in _ONE_PICTURE_A_PACKET or not formats & _WITH_TIMES:
            return None
        times: list[int] = []
        keys: list[tuple[int, int]] = []
        try:
            for packet in container.demux(track):
                if not packet.size or packet.is_discard:
                    continue
                # Transport streams are searched by the time of decoding, the others by that of
                # presentation.
                start = packet.dts if "mpegts" in formats else packet.pts
                if packet.pts is None or start is None:
                    return None
                times.append(packet.pts)
                if packet.is_keyframe:
                    keys.append((packet.pts, start))
        except (av.error.FFmpegError, IndexError):  # damage: decoding finds what there is
            return None
        if len(set(times)) < len(times) or track.start_time is None or not keys:
            return None
        times.sort()
        keys.sort()
        stamps = [float((time - track.start_time) * track.time_base) for time in times]
        numbers = [bisect.bisect_left(times, time) for time, _ in keys]
        return _Index(stamps, numbers, [start for _, start in keys])
