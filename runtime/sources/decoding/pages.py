"""The pictures of an image file: one, or those of an animation or of several pages."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dff_edge.errors import FrameError
from dff_edge.opencv import cv2
from dff_edge.runtime.sources.decoding.jpeg import damage_in_jpeg
from dff_edge.runtime.sources.decoding.picture_size import (
    check_stated_size,
    is_turned_tiff,
    tiff_pages,
)

_CHUNK_BYTES = 64 << 20  # of an animation's pictures that are decoded at once
_CAN_READ_SEVERAL = hasattr(cv2, "imdecodeanimation")  # OpenCV 4.12 and later


class Page(NamedTuple):
    """A picture as it is stored: grey ``(H, W)`` or BGR(A) ``(H, W, C)``, of any type.

    Attributes:
        pixels: decoded, rotated by EXIF unless requested as stored.
        duration_s: how long an animation shows it, None where it is none.
        white: the largest value that the file states, None where it is that of the type.
    """

    pixels: NDArray[Any]
    duration_s: float | None = None
    white: int | None = None


def count_pages(data: bytes) -> int:
    """Return the number of pictures that a file states: pages of a TIFF, frames of an animation."""
    if _is_tiff(data):
        return len(tiff_pages(data))
    if data.startswith(b"RIFF") and data[12:16] == b"VP8X" and data[20:21] and data[20] & 2:
        return max(1, sum(name == b"ANMF" for name, _ in _riff_chunks(data)))
    if data.startswith(b"\x89PNG"):
        head = data[: max(0, data.find(b"IDAT"))]
        at = head.find(b"acTL")
        if at >= 0:
            return max(1, int.from_bytes(data[at + 4 : at + 8], "big"))
    return 1


def read_pages(data: bytes, *, as_stored: bool = False) -> Iterator[Page]:
    """Decode the pictures of an image file, one after another.

    Args:
        data: the file, of a format that `check_stated_size` knows.
        as_stored: ignore EXIF rotation.

    Raises:
        FrameError: it is damaged, cut off, too large, of an unknown format, or of several pictures
            that this OpenCV cannot read; after those that could be read.
    """
    height, width = check_stated_size(data)
    _check_whole(data)
    flags = cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH
    flags |= cv2.IMREAD_IGNORE_ORIENTATION if as_stored else 0
    count = count_pages(data)
    array = np.frombuffer(data, np.uint8).reshape(1, -1)  # OpenCV 4's WebP needs a row
    if count > 1 and not _CAN_READ_SEVERAL:
        raise FrameError(
            f"it holds {count} pictures, which OpenCV {cv2.__version__} does not read; install "
            "OpenCV 4.12 or later, or convert it to a video"
        )
    if as_stored and _is_tiff(data) and is_turned_tiff(data):
        raise FrameError(
            "it is a TIFF with an orientation, which OpenCV always applies; labels belong to the "
            "pixels as they are stored. Store it upright"
        )
    if _is_tiff(data) and (pages := tiff_pages(data)) != [0]:
        for page in pages:
            (pixels,) = _decoded(_decode_page, array, flags, page)
            yield Page(pixels)
    elif count == 1:
        yield Page(_decoded(cv2.imdecode, array, flags), white=_stated_white(data))
    else:
        step = max(1, _CHUNK_BYTES // (4 * height * width))
        for first in range(0, count, step):
            wanted = min(step, count - first)
            animation = _decoded(_decode_animation, array, first, wanted)
            for pixels, duration in zip(animation.frames, animation.durations, strict=False):
                yield Page(pixels, float(duration) / 1e3)
            if len(animation.frames) < wanted:
                raise FrameError(
                    f"it is damaged: {first + len(animation.frames)} of its {count} pictures can "
                    "be read"
                )


def _is_tiff(data: bytes) -> bool:
    return data[:4] in (b"II*\0", b"II+\0", b"MM\0*", b"MM\0+")


def _decode_page(array: NDArray[np.uint8], flags: int, page: int) -> Any:
    is_read, pages = cv2.imdecodemulti(array, flags, range=(page, page + 1))
    return pages if is_read else None


def _decode_animation(array: NDArray[np.uint8], first: int, count: int) -> Any:
    is_read, animation = cv2.imdecodeanimation(array, first, count)
    return animation if is_read else None


def _decoded(decode: Any, *arguments: Any) -> Any:
    try:
        decoded = decode(*arguments)
    except cv2.error as error:
        raise FrameError(f"it cannot be decoded: {error.err or error}") from error
    if decoded is None:
        raise FrameError("it is damaged or not an image that OpenCV reads")
    return decoded


def _check_whole(data: bytes) -> None:
    """Raise for a truncated file, which decoders would fill up: OpenCV 4 with grey, for example."""
    if data.startswith(b"\xff\xd8"):
        damage = damage_in_jpeg(data)
        if damage is not None:
            raise FrameError(damage)
    elif data.startswith(b"\x89PNG") and b"IEND" not in data:
        raise FrameError("it is cut off: its end is missing")


def _stated_white(data: bytes) -> int | None:
    """Return the largest value of a PNM, which states it; 8 bits and less are left to OpenCV."""
    if not re.match(rb"P[2356]\s", data):
        return None
    words = b" ".join(line.split(b"#")[0] for line in data[:1024].split(b"\n")).split()
    white = int(words[3]) if len(words) > 3 and words[3].isdigit() else 0
    return white if 255 < white < 65536 else None


def _riff_chunks(data: bytes) -> Iterator[tuple[bytes, int]]:
    at = 12
    while at + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, at)
        yield name, size
        at += 8 + size + size % 2
