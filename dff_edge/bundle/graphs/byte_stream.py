"""A file read once from its start to its end: hashed on the way, and never held in memory.

The digest is of exactly the parsed bytes, even if the file changes meanwhile, and a file of
gigabytes takes no more memory than the parts that are parsed.
"""

from __future__ import annotations

import hashlib
from typing import BinaryIO

from dff_edge.bundle.graphs.protobuf import read_varint, truncated

_CHUNK_BYTES = 1 << 20  # of data that is only hashed
_AHEAD_BYTES = 1 << 16  # read at once of data that is parsed
_LONGEST_VARINT = 10


class ByteStream:
    """Bytes of a file, or of memory (``io.BytesIO``), in order.

    Args:
        file: at its start.
        size: its number of bytes. Further ones are an error that the caller detects by comparing
            digests.
    """

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.size = size
        self._file = file
        self._hash = hashlib.sha256()
        self._chunk = memoryview(b"")
        self._chunk_start = 0
        self._at = 0  # within the chunk

    @property
    def position(self) -> int:
        """Number of bytes read or skipped."""
        return self._chunk_start + self._at

    def take(self, count: int, message: str) -> memoryview:
        """Read bytes to be parsed.

        Args:
            count: their number; the caller bounds it.
            message: what they belong to, for errors.

        Raises:
            WireError: the file has fewer.
        """
        if count > len(self._chunk) - self._at:
            self._fill(count, message)
        at = self._at
        self._at = at + count
        return self._chunk[at : at + count]

    def skip(self, count: int, message: str) -> None:
        """Skip bytes that are only hashed.

        Raises:
            WireError: the file has fewer.
        """
        if count > self.size - self.position:
            raise truncated(message, count, self.size - self.position)
        step = min(count, len(self._chunk) - self._at)
        self._at += step
        count -= step
        while count > 0:
            part = self._read(min(count, _CHUNK_BYTES), message)
            self._chunk_start += len(part)
            count -= len(part)

    def varint(self) -> int:
        """Read an unsigned number of up to 64 bits."""
        if len(self._chunk) - self._at < _LONGEST_VARINT:
            self._fill(min(_LONGEST_VARINT, self.size - self.position), "number")
        value, self._at = read_varint(self._chunk, self._at)
        return value

    def sha256(self) -> str:
        """Read to the end of the file, and return the digest of all of it."""
        while True:
            chunk = self._file.read(_CHUNK_BYTES)
            if not chunk:
                return self._hash.hexdigest()
            self._hash.update(chunk)

    def _fill(self, count: int, message: str) -> None:
        """Buffer at least ``count`` bytes."""
        parts = [bytes(self._chunk[self._at :])]
        held = len(parts[0])
        while held < count:
            parts.append(self._read(max(_AHEAD_BYTES, count - held), message))
            held += len(parts[-1])
        self._chunk_start += self._at
        self._chunk, self._at = memoryview(b"".join(parts)), 0

    def _read(self, most: int, message: str) -> bytes:
        part = self._file.read(most)
        if not part:
            raise truncated(message, most, 0)
        self._hash.update(part)
        return part
