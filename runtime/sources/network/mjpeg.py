"""A connection to an MJPEG camera over HTTP: one thread receives, another decodes.

The receiving thread keeps up with whatever the camera sends, stamps pictures by the arrival of the
data, and keeps the newest only: each is complete in itself, so that those in between can be
dropped undecoded. The thread that reads the capture decodes.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import av
import av.error

from dff_edge.errors import FrameError
from dff_edge.frames import Image
from dff_edge.runtime.sources.capture import Shot
from dff_edge.runtime.sources.decoding.jpeg import damage_in_jpeg
from dff_edge.runtime.sources.decoding.picture_size import MAX_PICTURE_PX, check_stated_size
from dff_edge.runtime.sources.decoding.pictures import ImageMaker, in_words
from dff_edge.runtime.sources.network.clock import PartClock
from dff_edge.runtime.sources.network.parts import PartReader
from dff_edge.runtime.sources.network.receiver import Receiver
from dff_edge.runtime.sources.network.web import WebBody

_LARGE_BYTES = 1 << 18  # size of a JPEG from which its check takes a millisecond


class MjpegCapture:
    """The newest picture of a stream of JPEGs.

    Args:
        body: of the response; owned by the capture from now on.
        parts: reads it, and may have read its beginning.
        name: of the camera, for the thread.
    """

    fps: float | None = None
    size: tuple[int, int] | None = None

    def __init__(self, body: WebBody, parts: PartReader, name: str) -> None:
        self._body = body
        self._decoder = JpegDecoder()
        self._newest = _Newest(parts, f"dff-edge {name} receiver")
        self._skipped = 0  # before pictures that could not be decoded
        self._follows = True

    def read(self) -> Shot | str | None:
        picture = self._newest.take()
        if picture is None:
            return None
        self._skipped += picture.skipped
        self._follows &= picture.follows
        try:
            image = self._decoder.decode(picture.data)
        except FrameError as error:
            return str(error)
        shot = Shot(image, picture.stamp_s, self._follows, self._skipped)
        self._skipped, self._follows = 0, True
        return shot

    def release(self) -> None:
        self._body.abort()
        self._newest.stop()
        self._body.close()
        self._decoder.close()


class _Picture(NamedTuple):
    data: bytes | bytearray
    stamp_s: float
    follows: bool
    skipped: int  # pictures that it has replaced


class _Newest(Receiver[_Picture]):
    """Receives pictures and keeps the newest.

    After a delay many are queued in the connection. A picture with another one queued behind it is
    skipped: it is old, and only the last one has a known age. No more are skipped than were queued
    at once, so that some come through even where reading does not keep up.
    """

    def __init__(self, parts: PartReader, name: str) -> None:
        super().__init__()
        self._parts = parts
        self._clock = PartClock()
        self._follows = True
        self._passed_over = 0
        self._left_bytes = 0  # that may be skipped
        self._start(name)

    def _receive(self) -> _Picture | None:
        part = self._parts.read()
        stamp_s, went_on = self._clock.stamp(part)
        self._follows &= went_on
        waiting, size = self._parts.waiting, len(part.data)
        if not self._passed_over:
            self._left_bytes = waiting
        if min(waiting, self._left_bytes) >= size:
            self._left_bytes -= size
            self._passed_over += 1
            return None
        picture = _Picture(part.data, stamp_s, self._follows, self._passed_over)
        self._follows, self._passed_over = True, 0
        return picture

    def _put(self, picture: _Picture) -> None:
        if self._queue:
            last = self._queue.pop()
            follows = picture.follows and last.follows
            skipped = last.skipped + 1 + picture.skipped
            picture = picture._replace(follows=follows, skipped=skipped)
        self._queue.append(picture)


class JpegDecoder:
    """Decodes the pictures of one stream. FFmpeg takes three quarters of OpenCV's time for it.

    Another thread checks large ones for damage meanwhile.
    """

    def __init__(self) -> None:
        self._codec = av.CodecContext.create("mjpeg", "r")
        self._codec.thread_count = 1  # each frame thread delays a picture
        self._codec.options = {"max_pixels": str(MAX_PICTURE_PX)}
        self._images = ImageMaker()
        self._checker = ThreadPoolExecutor(1, "dff-edge JPEG check")

    def decode(self, data: bytes | bytearray) -> Image:
        """Decode a picture.

        Raises:
            FrameError: it is no JPEG, too large, or damaged.
        """
        data = bytes(data)
        if len(data) < _LARGE_BYTES:
            _refuse(fault_in_jpeg(data))
            return self._decode(data)
        check_stated_size(data)
        check = self._checker.submit(damage_in_jpeg, data)
        try:
            image = self._decode(data)
        finally:
            _refuse(check.result())  # which reports more than the decoder
        return image

    def close(self) -> None:
        """End the other thread."""
        self._checker.shutdown()

    def _decode(self, data: bytes) -> Image:
        try:
            pictures = self._codec.decode(av.Packet(data))
            image = self._images.image_of(pictures[-1]) if pictures else None
        except (av.error.FFmpegError, ValueError, MemoryError) as error:
            raise FrameError(in_words(error)) from error
        if image is None:
            raise FrameError("it is damaged or no JPEG")
        return image


def _refuse(fault: str | None) -> None:
    if fault is not None:
        raise FrameError(fault)


def fault_in_jpeg(data: bytes) -> str | None:
    """Return why a JPEG must not be decoded, too large or damaged; None where it is fine."""
    try:
        check_stated_size(data)
    except FrameError as error:
        return str(error)
    return damage_in_jpeg(data)
