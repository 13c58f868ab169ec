"""Frames of a video file, decoded by FFmpeg through PyAV.

Pictures that FFmpeg cannot decode are counted and take a number. A picture that is damaged, by the
decoder's report or by a check of the coded data, counts as not decoded, and so do those predicted
from it: their labels would describe a picture that never existed.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from typing import Any

import av
import av.error

from dff_edge.errors import FrameError, SourceError
from dff_edge.frames import Frame
from dff_edge.runtime.sources.base import PulledSource
from dff_edge.runtime.sources.decoding.decoder import Decoder
from dff_edge.runtime.sources.decoding.decoding_order import Coded
from dff_edge.runtime.sources.decoding.deinterlacing import Deinterlacer
from dff_edge.runtime.sources.decoding.grey_levels import GreyLevels, GreyRangeError
from dff_edge.runtime.sources.decoding.picture_size import MAX_PICTURE_PX, check_size
from dff_edge.runtime.sources.decoding.pictures import ImageMaker, in_words
from dff_edge.runtime.sources.decoding.tracks import PixelAspect, pick_track
from dff_edge.uri import SourceUri

_LOG = logging.getLogger("dff_edge.runtime")
_MAX_READ_ERRORS = 20  # in a row, before the file counts as unreadable from there on

# Formats that hold video themselves. Left out are FFmpeg's lists and playlists, which open further
# files and addresses (and poll a live one for ever), its devices, and formats that render text.
FORMATS = (
    "3gp,apng,asf,av1,avi,dv,dvbts,flv,gif,h264,hevc,ivf,m4v,matroska,mjpeg,mjpeg_2000,mov,mp4,mpeg,"
    "mpegts,mpegvideo,mxf,nut,obu,ogg,rm,vc1,wtv,yuv4mpegpipe"
)


class VideoFileSource(PulledSource):
    """A video track of a file, the largest unless ``?track=`` selects one.

    Stamps are the presentation times of the container from the start of the stream (`Stamps`).
    Rotation metadata and the shape of pixels are applied: images have square pixels, and are
    upright. Packets without data, which some recorders write where the picture does not change,
    are skipped.

    Args:
        uri: the file.
        container: an open one, of a recording that is elsewhere; owned by the source from now on.
        start: time of a key frame to start at, in the unit of the track (of decoding in transport
            streams, else of presentation). Stamps stay those of the whole file, and frames are
            numbered from there. None for the start of the file.
    """

    def __init__(self, uri: SourceUri, container: Any = None, *, start: int | None = None) -> None:
        super().__init__(uri.text)
        self._path = uri.text if container is not None else uri.target
        self._container = container or open_container(uri.target)
        try:
            number = uri.integer("track", minimum=0)
            self._stream = pick_track(self._container, self._path, number)
            self._check_size()
            rate = self._stream.average_rate or self._stream.guessed_rate
            if self._stream.start_time is None:  # a raw stream: use its headers, not a guess
                rate = self._stream.guessed_rate or rate
            self.fps = float(rate) if rate else None
            self.length = self._container_length()
            self._index = 0
            self._packets = 0
            self._last_time: int | None = None  # of decoding
            self._empty = 0
            self._decoder = Decoder(self._stream, self._container.format.name, self.fps)
            self._deinterlacer = Deinterlacer(uri)
            self._images = ImageMaker(uri.text, GreyLevels(uri))
            self._aspect = PixelAspect(self._stream)
            self._is_part = start is not None
            if start is not None:
                self._seek(start)
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

    def _check_size(self) -> None:
        codec = self._stream.codec_context
        if codec.height and codec.width:
            try:
                check_size(codec.height, codec.width)
            except FrameError as error:
                raise SourceError(f"'{self._path}': {error}.") from error

    def _seek(self, start: int) -> None:
        try:
            self._container.seek(start, stream=self._stream)
        except av.error.FFmpegError as error:
            raise SourceError(
                f"'{self._path}' cannot be read from the middle: {in_words(error)}."
            ) from error

    def _frames(self) -> Iterator[Frame]:
        for coded in self._judged():
            if coded.problem is not None:
                self._fail(coded.problem)
                continue
            note = (self._index, self._decoder.stamps.stamp(coded.time, self._index))
            self._index += 1
            yield from self._images_of(self._deinterlacer.push(coded.picture, note))
        yield from self._images_of(self._deinterlacer.flush())
        if not self._is_part:
            self._count_missing()

    def _images_of(self, pictures: list[tuple[Any, tuple[int, float]]]) -> Iterator[Frame]:
        for picture, (index, stamp_s) in pictures:
            try:
                image = self._images.image_of(picture, self._aspect.now())
            except GreyRangeError as error:
                raise SourceError(f"'{self._path}': frame {index}: {error}.") from error
            except (av.error.FFmpegError, FrameError, ValueError, MemoryError) as error:
                self._skip(f"frame {index}: {error}")
                continue
            yield Frame(image, index, stamp_s)

    def _judged(self) -> Iterator[Coded]:
        for packet in self._read_packets():
            yield from self._decoder.send(packet)
        yield from self._decoder.finish()

    def _read_packets(self) -> Iterator[Any]:
        """Yield the packets that hold data."""
        errors = 0
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except IndexError:
                # After the last packet PyAV continues with streams that have appeared since the
                # file was opened, as damage creates them, and fails: it does not know those.
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
            is_of_file = packet.size > 0 or packet.dts is not None or packet.pts is not None
            self._packets += is_of_file
            self._last_time = packet.dts if packet.dts is not None else self._last_time
            if packet.size:
                yield packet
            else:
                self._empty += is_of_file

    def _fail(self, reason: str) -> None:
        self._skip(f"frame {self._index}: {reason}")
        self._index += 1

    def _count_missing(self) -> None:
        """Count the frames that the container's index lists and the file lacks."""
        if self._empty:
            _LOG.info("%s: %d packets are empty: the picture stays", self.uri, self._empty)
        stated = self._stream.frames
        missing = stated - self._packets
        if "mp4" in self._container.format.name:
            # An edit list hides frames from the index but not from the stated number.
            missing = _count_behind(self._stream.index_entries, self._last_time)
        elif self._container.format.name == "avi" and self._last_time is not None:
            # Its times are numbers of pictures, some of which are left out: the picture repeats.
            missing = stated - 1 - self._last_time
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

    def _container_length(self) -> int | None:
        if self._stream.frames:
            return int(self._stream.frames)
        duration_us = self._container.duration
        if duration_us and duration_us > 0 and self.fps:
            return int(duration_us * 1e-6 * self.fps + 0.5)
        return None


def _count_behind(index: Any, time: int | None) -> int:
    """Return how many pictures an index lists after a time of decoding."""
    count = 0
    while time is not None and count < len(index) and index[-1 - count].timestamp > time:
        count += 1
    return count


def open_container(path: str) -> Any:
    """Open a video file without following what it refers to.

    Raises:
        SourceError: it is missing, empty, no regular file, or no video.
    """
    if not os.path.exists(path):
        raise SourceError(f"There is no file '{path}'.")
    if not os.path.isfile(path):  # a pipe or device could block for ever
        raise SourceError(f"'{path}' is not a regular file, expected a video file.")
    if not os.path.getsize(path):
        raise SourceError(f"'{path}' is empty (0 bytes), expected a video file.")
    try:
        # "file:" and the list of protocols: neither a name nor a file's content opens a connection.
        return av.open(
            f"file:{path}",
            options={
                "protocol_whitelist": "file",
                "format_whitelist": FORMATS,
                "max_pixels": str(MAX_PICTURE_PX),  # it may decode a picture to detect its format
            },
        )
    except av.error.ArgumentError as error:  # FFmpeg's error for a format that is not listed
        raise SourceError(
            f"'{path}' is not of a video format that dff-edge reads, such as mp4, mov, mkv, avi, "
            "ts or webm; playlists and text are not read."
        ) from error
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise SourceError(
            f"'{path}' cannot be opened as a video: {in_words(error)}. It is damaged, incomplete, "
            "or not a video file."
        ) from error
