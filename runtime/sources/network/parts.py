"""The pictures of an MJPEG stream, complete and undecoded.

Over HTTP they are the parts of a multipart/x-mixed-replace body, with or without their lengths, or
they just follow each other. A picture ends by its stated length, else by its own structure: the
next boundary would come with the next picture only.
"""

from __future__ import annotations

import math
import re
import time
from typing import NamedTuple

from dff_edge.errors import SourceError
from dff_edge.runtime.sources.network import limits
from dff_edge.runtime.sources.network.web import WebBody

_ENDED = "the stream has ended"
_LEAST_BYTES, _MOST_BYTES = 1024, 65536  # of a read
_BESIDE = ("text/", "application/json")  # what a camera may send between its pictures
_START, _END = b"\xff\xd8", b"\xff\xd9"
_BARE = (_START, b"\xff\x01")  # markers without data
# In a scan FF 00 stands for FF, and restart markers and fill bytes do not end it.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)


class Part(NamedTuple):
    """One picture, as received.

    Attributes:
        data: a JPEG, as far as the camera states.
        first_s: ``time.monotonic()`` at the arrival of its first bytes.
        last_s: the same of its last ones.
        time_s: by the camera's own clock, None where it sends none.
    """

    data: bytes | bytearray
    first_s: float
    last_s: float
    time_s: float | None


class PartReader:
    """Reads the pictures of a body.

    Args:
        body: of the response; closed by the caller.
    """

    def __init__(self, body: WebBody) -> None:
        self._body = body
        self._buffer = bytearray()
        self._has_parts = body.kind.startswith("multipart/")
        self._delimiter = _delimiter_of(body.boundary)
        self._trusts_lengths = True
        self._was_measured = False  # the part before had the stated length
        self._size = 0  # of the picture before, in bytes

    def read(self) -> Part:
        """Wait for the next picture.

        Raises:
            SourceError: the connection failed or has ended, or the data is no such stream, or too
                large.
        """
        self._body.allow(time.monotonic() + limits.PICTURE_S)
        while True:
            headers = self._next_headers() if self._has_parts else {}
            if not self._buffer:
                self._fill(_LEAST_BYTES)
            first_s = self._body.arrival_s
            length = _length_of(headers) if self._trusts_lengths else None
            self._was_measured = length is not None
            data = self._take_unmeasured() if length is None else self._take(length)
            if not headers.get("content-type", "").lower().startswith(_BESIDE):
                self._size = len(data)
                return Part(data, first_s, self._body.arrival_s, _time_of(headers))

    @property
    def waiting(self) -> int:
        """Number of bytes that have arrived and belong to the next pictures."""
        return len(self._buffer) + self._body.waiting

    def starts_with_jpeg(self) -> bool:
        """Return whether the body begins with a JPEG; waits for its first bytes."""
        while len(self._buffer) < 3:
            self._fill(1024)
        return self._buffer.startswith(_START + b"\xff")

    def taken(self) -> bytes:
        """Return the bytes read so far, for another reader to read them first."""
        return bytes(self._buffer)

    def _next_headers(self) -> dict[str, str]:
        """Advance past the next boundary and return the headers of its part."""
        skipped = 0
        while True:
            line = self._line()
            if self._is_boundary(line):
                break
            skipped += len(line)
            if self._was_measured and line.strip():  # more than was stated
                self._trusts_lengths = False
            if skipped > limits.MAX_PICTURE_BYTES:
                raise SourceError("its parts have no boundary between them")
        headers: dict[str, str] = {}
        size = 0
        while (line := self._line()).strip():
            size += len(line)
            if size > limits.MAX_HEADER_BYTES:
                raise SourceError("the headers of a part do not end")
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.strip().lower()] = value.strip()
        return headers

    def _is_boundary(self, line: bytes) -> bool:
        line = line.rstrip()
        if self._delimiter is None:
            if not line.startswith(b"--"):
                return False
            self._delimiter = (line,)
        if any(line == delimiter + b"--" for delimiter in self._delimiter):
            raise SourceError(_ENDED)
        return line in self._delimiter

    def _line(self) -> bytes:
        """Return a line, or a piece of one that is too long for a header."""
        while (end := self._buffer.find(b"\n")) < 0 and len(self._buffer) < limits.MAX_HEADER_BYTES:
            self._fill(1024)
        count = end + 1 if end >= 0 else len(self._buffer)
        line = bytes(self._buffer[:count])
        del self._buffer[:count]
        return line

    def _take(self, length: int) -> bytes | bytearray:
        if length > limits.MAX_PICTURE_BYTES:
            raise SourceError(
                f"it announces a picture of {length} bytes, expected at most "
                f"{limits.MAX_PICTURE_BYTES}"
            )
        have = min(len(self._buffer), length)
        data = bytearray(length)
        data[:have] = self._buffer[:have]
        del self._buffer[:have]
        if have < length:
            self._body.read_into(memoryview(data)[have:])
        return data

    def _take_unmeasured(self) -> bytearray:
        """Return a JPEG by its own structure, or the data up to the next boundary."""
        jpeg = _JpegFinder()
        looked_at = 0
        while True:
            found = jpeg.find(self._buffer)
            boundary = self._find_boundary(looked_at) if self._has_parts else -1
            if boundary >= 0 and (found is None or boundary < found[1]):
                found = (0, boundary)
            if found is not None:
                data = self._buffer[slice(*found)]
                del self._buffer[: found[1]]
                return data
            if len(self._buffer) > limits.MAX_PICTURE_BYTES:
                raise SourceError(
                    f"it sends a picture that has no end within {limits.MAX_PICTURE_BYTES} bytes"
                )
            looked_at = max(0, len(self._buffer) - limits.MAX_HEADER_BYTES)
            # Small reads where pictures are small: each read returns the arrival of its last byte.
            self._fill(min(max(self._size // 8, _LEAST_BYTES), _MOST_BYTES))

    def _find_boundary(self, start: int) -> int:
        places = [self._buffer.find(b"\n" + each, start) for each in self._delimiter or ()]
        return min((place + 1 for place in places if place >= 0), default=-1)

    def _fill(self, size: int) -> None:
        data = self._body.read_some(size)
        if not data:
            raise SourceError(_ENDED)
        self._buffer += data


class _JpegFinder:
    """Finds the start and the end of a JPEG in data that grows."""

    def __init__(self) -> None:
        self._start = -1
        self._place = 0  # position up to which it has been searched

    def find(self, data: bytearray) -> tuple[int, int] | None:
        """Return the start of a JPEG and the position after it, None until it is complete."""
        if self._start < 0:
            self._start = data.find(_START, self._place)
            self._place = self._start + 2 if self._start >= 0 else max(0, len(data) - 1)
        while self._start >= 0:
            marker = _MARKER.search(data, self._place)
            if marker is None:
                self._place = max(self._place, len(data) - 1)
                break
            self._place = marker.start()
            if marker[0] == _END:
                return self._start, marker.end()
            end = marker.end()
            size = 0 if marker[0] in _BARE else int.from_bytes(data[end : end + 2], "big")
            if len(data) < end + max(size, 2):
                break
            self._place = end + size
        return None


def _delimiter_of(boundary: str | None) -> tuple[bytes, ...] | None:
    """Return the possible boundary lines, None where the first one defines it."""
    if not boundary:
        return None
    name = boundary[:200].strip().encode("latin-1", "replace")
    # Some state it with the two hyphens that are to be put before it.
    return (b"--" + name, name) if name.startswith(b"--") else (b"--" + name,)


def _length_of(headers: dict[str, str]) -> int | None:
    text = headers.get("content-length", "")
    return int(text) if re.fullmatch(r"\d{1,18}", text, re.ASCII) and int(text) else None


def _time_of(headers: dict[str, str]) -> float | None:
    """Return the camera's time in seconds, as mjpg-streamer, ESP32-CAM and others send it."""
    try:
        time_s = float(headers["x-timestamp"])
    except (KeyError, ValueError):
        return None
    return time_s if math.isfinite(time_s) else None
