"""MXNet's ``.params`` files: a list of named arrays, read byte by byte.

Nothing in such a file is code. Every length in it is compared with the remaining bytes before
anything is allocated.

Layout, little-endian: 0x112 and 0 (uint64 each), the number of arrays (uint64), the arrays, the
number of names (uint64), each name as its length (uint64) and UTF-8. An array is a magic number of
its version (uint32; in files of before 2017 it is the number of axes), for versions 2 and 3 the
kind of storage (int32, 0 for dense), axes and sides (int64, in the oldest files uint32), device
(two int32), type (int32) and the numbers in C order.

Source: apache/mxnet, ``src/ndarray/ndarray.cc``, ``NDArray::Load``.
"""

from __future__ import annotations

import math
import struct

import numpy as np
import torch
from torch import Tensor

from dff_edge.errors import CheckpointError

MAGIC = struct.pack("<QQ", 0x112, 0)
_V1, _V2, _V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
_DTYPES = ("<f4", "<f8", "<f2", "u1", "<i4", "i1", "<i8")
_MAX_AXES = 8  # more means a damaged file: weights have four at most


def read_mxnet_params(content: bytes, origin: str) -> dict[str, Tensor]:
    """Read the arrays of a ``.params`` file.

    Args:
        content: the whole file.
        origin: its name in messages.

    Returns:
        Tensors by name, ``arg:`` and ``aux:`` still in front; float16 and float64 as float32.

    Raises:
        CheckpointError: it is damaged, or holds something unusual for weights (sparse or empty
            arrays, a name twice); reports what and at which byte.
    """
    reader = _Reader(content, origin)
    if reader.take(len(MAGIC)) != MAGIC:
        raise reader.error("it does not start with MXNet's magic number")
    arrays = [_read_array(reader) for _ in range(reader.count(least_bytes=4))]
    names = [_read_name(reader) for _ in range(reader.count(least_bytes=8))]
    if len(names) != len(arrays):
        raise reader.error(f"it has {len(arrays)} arrays and {len(names)} names")
    if len(set(names)) != len(names):
        raise reader.error("it holds a name twice")
    if reader.left:
        raise reader.error(f"{reader.left} bytes follow the last name")
    return dict(zip(names, arrays, strict=True))


class _Reader:
    """Returns bytes in order, and raises past the end."""

    def __init__(self, content: bytes, origin: str) -> None:
        self._content = content
        self._origin = origin
        self._at = 0

    @property
    def left(self) -> int:
        return len(self._content) - self._at

    def take(self, size: int) -> bytes:
        if size > self.left:
            raise self.error(f"{size} bytes are wanted and {self.left} are left")
        self._at += size
        return self._content[self._at - size : self._at]

    def numbers(self, form: str) -> tuple[int, ...]:
        return struct.unpack(f"<{form}", self.take(struct.calcsize(f"<{form}")))

    def number(self, form: str) -> int:
        return self.numbers(form)[0]

    def count(self, least_bytes: int) -> int:
        """Read a number of items, each of at least ``least_bytes``."""
        count = self.number("Q")
        if count * least_bytes > self.left:
            raise self.error(f"it announces {count} entries and has {self.left} bytes left")
        return count

    def error(self, problem: str) -> CheckpointError:
        return CheckpointError(
            f"{self._origin} is damaged or no MXNet .params file: {problem} (byte {self._at}). "
            "Copy or download it again."
        )


def _read_array(reader: _Reader) -> Tensor:
    version = reader.number("I")
    if version in (_V2, _V3) and (storage := reader.number("i")) != 0:
        raise reader.error(f"an array has storage type {storage}, expected 0 (dense)")
    axes = reader.number("i") if version in (_V1, _V2, _V3) else version
    if not 1 <= axes <= _MAX_AXES:
        raise reader.error(f"an array has {axes} axes, expected 1 to {_MAX_AXES}")
    shape = reader.numbers(f"{axes}{'q' if version in (_V1, _V2, _V3) else 'I'}")
    if min(shape) < 1:
        raise reader.error(f"an array has shape {shape}, expected positive sides")
    reader.numbers("ii")  # the device that it was on
    code = reader.number("i")
    if not 0 <= code < len(_DTYPES):
        raise reader.error(f"an array has type {code}, expected 0 to {len(_DTYPES) - 1}")
    dtype = np.dtype(_DTYPES[code])
    values = np.frombuffer(reader.take(math.prod(shape) * dtype.itemsize), dtype).reshape(shape)
    with np.errstate(over="ignore"):  # too large for float32 becomes infinite, which is refused
        # A copy: the buffer of the file is read-only.
        return torch.from_numpy(values.astype(np.float32 if dtype.kind == "f" else dtype))


def _read_name(reader: _Reader) -> str:
    name = reader.take(reader.number("Q"))
    try:
        return name.decode("utf-8")
    except UnicodeDecodeError as error:
        raise reader.error("a name is not UTF-8") from error
