"""Frames of a video file, decoded by FFmpeg through PyAV.

What FFmpeg can decode is delivered; what it cannot is counted and takes a number. A frame that the
decoder itself marks as damaged counts as not decoded: its labels would be about a picture that
never was.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from typing import Any

import av
import av.error

from dff_edge.runtime.errors import FrameError, SourceError
from dff_edge.runtime.frames import Frame
from dff_edge.runtime.sources.base import PulledSource
from dff_edge.runtime.sources.pictures import ImageMaker, in_words
from dff_edge.runtime.uri import SourceUri

_LOG = logging.getLogger("dff_edge.runtime")
_FALLBACK_FPS = 25.0  # FFmpeg's own guess for streams without time
_MAX_READ_ERRORS = 20  # in a row, before the file counts as unreadable from there on

# Formats that hold video themselves. Left out are FFmpeg's lists and playlists, which open further
# files and addresses (and poll a live one for ever), its devices, and what makes pictures of text.
FORMATS = (
    "3gp,apng,asf,av1,avi,dv,dvbts,flv,gif,h264,hevc,ivf,m4v,matroska,mjpeg,mjpeg_2000,mov,mp4,mpeg,"
    "mpegts,mpegvideo,mxf,nut,obu,ogg,rm,vc1,wtv,yuv4mpegpipe"
)


class VideoFileSource(PulledSource):
    """The first video stream of a file.

    Stamps are the presentation times of the container from the start of the stream; where they
    stand still or go back, as in joined recordings, they go on by the nominal frame period.
    Rotation metadata is applied.

    Args:
        uri: the file.
        container: of a recording that is elsewhere, open; from now on the source's.
    """

    def __init__(self, uri: SourceUri, container: Any = None) -> None:
        super().__init__(uri.text)
        self._path = uri.text if container is not None else uri.target
        self._container = container or _open_container(uri.target)
        try:
            self._stream = _pick_stream(self._container, uri.target)
            # Not frame threads: there an error comes late, and one at the end of the file takes the
            # good frames with it that wait beside it.
            self._stream.thread_type = "SLICE"
            rate = self._stream.average_rate or self._stream.guessed_rate
            self.fps = float(rate) if rate else None
            self.length = self._container_length()
            self._index = 0
            self._packets = 0
            self._images = ImageMaker()
            self._last_stamp_s: float | None = None
        except BaseException:
            self._container.close()
            raise
        self._look_ahead()
        if self._first is None:
            self.close()
            reason = self.counts.reasons[0] if self.counts.reasons else "it holds no video data"
            raise SourceError(
                f"'{self._path}': not one frame could be decoded ({reason}). The file is damaged "
                "or incomplete; try to play it, or convert it anew."
            )

    def _release(self) -> None:
        self._container.close()

    def _frames(self) -> Iterator[Frame]:
        for packet in self._read_packets():
            if packet.is_corrupt and self._container.format.name != "mpegts":
                # The container knows that the data is cut off. (In a transport stream the mark only
                # says that a packet before this one is missing.)
                self._fail("its data is cut off")
                continue
            try:
                decoded = self._stream.decode(packet)
            except av.error.FFmpegError as error:
                self._fail(in_words(error))
                continue
            for picture in decoded:
                if picture.is_corrupt:
                    self._fail("the decoder found damage in it")
                    continue
                try:
                    image = self._images.image_of(picture)
                except (av.error.FFmpegError, FrameError, ValueError, MemoryError) as error:
                    self._fail(str(error))
                    continue
                yield Frame(image, self._index, self._stamp(picture))
                self._index += 1
        self._count_missing()

    def _read_packets(self) -> Iterator[Any]:
        errors = 0
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except av.error.FFmpegError as error:
                self._fail(in_words(error))
                errors += 1
                if errors == _MAX_READ_ERRORS:
                    raise SourceError(
                        f"'{self._path}' cannot be read beyond frame {self._index}: "
                        f"{in_words(error)}"
                    ) from error
                packets = self._container.demux(self._stream)
                continue
            errors = 0
            self._packets += packet.size > 0
            yield packet
            if not packet.size:
                # That one empties the decoder. PyAV would go on to streams that have appeared since
                # the file was opened, as damage makes them, and fail: it does not know those.
                return

    def _fail(self, reason: str) -> None:
        self._skip(f"frame {self._index}: {reason}")
        self._index += 1

    def _count_missing(self) -> None:
        """Count the frames that the container's index lists and the file does not hold."""
        stated = self._stream.frames
        if "mp4" in self._container.format.name:
            # An edit list hides frames from the index but not from the stated number.
            stated = min(stated, len(getattr(self._stream, "index_entries", ())) or stated)
        missing = stated - self._packets
        if missing > 0 and self._packets:
            _LOG.warning(
                "%s: ends early, %d of %d frames are missing: the file is cut off",
                self.uri,
                missing,
                stated,
            )
            for _ in range(missing):
                self.counts.fail(f"frame {self._index}: missing, the file ends before it")
                self._index += 1

    def _stamp(self, picture: Any) -> float:
        last = self._last_stamp_s
        stamp_s = None
        if picture.pts is not None and picture.time_base:
            start = self._stream.start_time or 0
            stamp_s = float((picture.pts - start) * picture.time_base)
        if stamp_s is None or (last is not None and stamp_s <= last):
            stamp_s = 0.0 if last is None else last + 1.0 / (self.fps or _FALLBACK_FPS)
        self._last_stamp_s = stamp_s
        return stamp_s

    def _container_length(self) -> int | None:
        if self._stream.frames:
            return int(self._stream.frames)
        duration_us = self._container.duration
        if duration_us and duration_us > 0 and self.fps:
            return int(duration_us * 1e-6 * self.fps + 0.5)
        return None


def _open_container(path: str) -> Any:
    if not os.path.exists(path):
        raise SourceError(f"There is no file '{path}'.")
    if not os.path.isfile(path):  # a pipe or device could block for ever
        raise SourceError(f"'{path}' is not a regular file, expected a video file.")
    if not os.path.getsize(path):
        raise SourceError(f"'{path}' is empty (0 bytes), expected a video file.")
    try:
        # "file:" and the list of protocols: neither a name nor what a file says makes it call out.
        return av.open(
            f"file:{path}", options={"protocol_whitelist": "file", "format_whitelist": FORMATS}
        )
    except av.error.ArgumentError as error:  # how FFmpeg answers a format that is not listed
        raise SourceError(
            f"'{path}' is not of a video format that dff-edge reads, such as mp4, mov, mkv, avi, "
            "ts or webm; playlists and text are not read."
        ) from error
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise SourceError(
            f"'{path}' cannot be opened as a video: {in_words(error)}. It is damaged, incomplete, "
            "or not a video file."
        ) from error


def _pick_stream(container: Any, path: str) -> Any:
    streams = [stream for stream in container.streams.video if not _is_cover(stream)]
    if not streams:
        others = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
        raise SourceError(f"'{path}' has no video stream (it holds: {others}).")
    if streams[0].codec_context is None:
        raise SourceError(f"'{path}': this build of PyAV has no decoder for its video stream.")
    return streams[0]


def _is_cover(stream: Any) -> bool:
    """Whether the stream is the cover picture of an audio file."""
    disposition = getattr(stream, "disposition", 0)
    return "attached_pic" in str(disposition).lower()
