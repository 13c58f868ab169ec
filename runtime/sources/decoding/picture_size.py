"""The size that a picture's header states, read before it is decoded.

A few bytes can claim gigabytes: a PNG of 2.6 MB for 3 GB. So pictures of files and of cameras
are checked here before they are decoded; formats that are never decoded have no size here.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from dff_edge.errors import FrameError
from dff_edge.runtime.kernels.resize import MAX_SIDE_PX

MAX_PICTURE_PX = 1 << 26  # 67 million, 8192 x 8192: twice 8K video; 200 MB as BGR

_MAX_TIFF_ENTRIES = 200_000  # of all pages: ten thousand of them, or a circular list


def check_stated_size(data: bytes) -> tuple[int, int]:
    """Return the size ``(H, W)`` that a picture states, of several pages the largest.

    Args:
        data: the file: PNG, JPEG, WebP, GIF, TIFF, BMP, JPEG 2000 or PNM, detected by content.

    Raises:
        FrameError: it is none of these, states no size, or one that is too large to be decoded.
    """
    size = stated_size(data)
    if size is None:
        raise FrameError(
            "it is damaged or not an image of a supported format (PNG, JPEG, WebP, GIF, TIFF, BMP, "
            "JPEG 2000, PNM)"
        )
    check_size(*size)
    return size


def check_size(height: int, width: int) -> None:
    """Raise FrameError unless a picture of this size may be decoded."""
    if height < 1 or width < 1:
        raise FrameError(f"it states a size of {width} x {height} pixels")
    if max(height, width) > MAX_SIDE_PX or height * width > MAX_PICTURE_PX:
        raise FrameError(
            f"it states a size of {width} x {height} pixels; at most {MAX_SIDE_PX} a side and "
            f"{MAX_PICTURE_PX / 1e6:.0f} million in all are decoded. Scale it down, or cut it"
        )


def stated_size(data: bytes) -> tuple[int, int] | None:
    """Return the size ``(H, W)`` that a picture's header states, None where it states none.

    Of several pages it is that of the largest, of an animation that of its canvas.

    Example:
        >>> stated_size(b"P6 640 480 255 ...")
        (480, 640)
    """
    for magic, size_of in _FORMATS:
        if re.match(magic, data, re.DOTALL):
            try:
                return size_of(data)
            except (IndexError, ValueError):  # the data ends within its header
                return None
    return None


def _number(data: bytes, at: int, size: int, order: str = "big") -> int:
    if at < 0 or at + size > len(data):
        raise IndexError("the data ends within its header")
    return int.from_bytes(data[at : at + size], "big" if order == "big" else "little")


def _png_size(data: bytes) -> tuple[int, int] | None:
    if data[12:16] != b"IHDR":
        return None
    return _number(data, 20, 4), _number(data, 16, 4)


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    at = 2
    while True:
        at = data.index(b"\xff", at)
        while _number(data, at, 1) == 0xFF:
            at += 1
        marker = data[at]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return _number(data, at + 4, 2), _number(data, at + 6, 2)
        if marker == 0xDA:
            return None
        at += 1
        if marker not in (0x00, 0x01):
            at += max(2, _number(data, at, 2))


def _gif_size(data: bytes) -> tuple[int, int] | None:
    return _number(data, 8, 2, "little"), _number(data, 6, 2, "little")


def _bmp_size(data: bytes) -> tuple[int, int] | None:
    if _number(data, 14, 4, "little") == 12:  # the header of OS/2
        return _number(data, 20, 2, "little"), _number(data, 18, 2, "little")
    height = _number(data, 22, 4, "little")
    return min(height, (1 << 32) - height), _number(data, 18, 4, "little")  # negative: top down


def _webp_size(data: bytes) -> tuple[int, int] | None:
    kind = data[12:16]
    if kind == b"VP8X":
        return 1 + _number(data, 27, 3, "little"), 1 + _number(data, 24, 3, "little")
    if kind == b"VP8L":
        bits = _number(data, 21, 4, "little")
        return 1 + (bits >> 14 & 0x3FFF), 1 + (bits & 0x3FFF)
    if kind == b"VP8 ":
        return _number(data, 28, 2, "little") & 0x3FFF, _number(data, 26, 2, "little") & 0x3FFF
    return None


def _pnm_size(data: bytes) -> tuple[int, int] | None:
    header = re.sub(rb"#[^\n]*", b"", data[:1024])
    numbers = re.match(rb"P[1-6]\s+(\d{1,9})\s+(\d{1,9})\s", header)
    return (int(numbers[2]), int(numbers[1])) if numbers else None


def _jp2_size(data: bytes) -> tuple[int, int] | None:
    at = 0
    while data[at : at + 4] != b"\xff\x4f\xff\x51":  # the codestream, which states the size too
        length, head = _number(data, at, 4), 8
        if length == 1:
            length, head = _number(data, at + 8, 8), 16
        is_codestream = data[at + 4 : at + 8] == b"jp2c"
        if not is_codestream and length < head:
            return None
        at += head if is_codestream else length
    left, top = _number(data, at + 16, 4), _number(data, at + 20, 4)
    return _number(data, at + 12, 4) - top, _number(data, at + 8, 4) - left


def _tiff_size(data: bytes) -> tuple[int, int] | None:
    sizes = [(tags[257], tags[256]) for tags in _tiff_directories(data)]
    return max(sizes, key=lambda size: size[0] * size[1], default=None)


def tiff_pages(data: bytes) -> list[int]:
    """Return the numbers of a TIFF's directories that are pictures of their own.

    Others hold smaller copies of them and masks (tag NewSubfileType). Where none is a picture of
    its own, the first counts.
    """
    try:
        kinds = [tags[254] for tags in _tiff_directories(data)]
    except (IndexError, ValueError):
        kinds = []
    return [number for number, kind in enumerate(kinds) if not kind & 0b101] or [0]


def is_turned_tiff(data: bytes) -> bool:
    """Return whether a TIFF must be rotated or mirrored for display (tag Orientation)."""
    try:
        return any(tags[274] > 1 for tags in _tiff_directories(data))
    except (IndexError, ValueError):
        return False


def _tiff_directories(data: bytes) -> list[dict[int, int]]:
    """Return the tags of each directory that are used here; raise ValueError for too many."""
    order = "little" if data[:2] == b"II" else "big"
    is_big = _number(data, 2, 2, order) == 43
    word, count_size, entry_size = (8, 8, 20) if is_big else (4, 2, 12)
    at = _number(data, 8 if is_big else 4, word, order)
    directories: list[dict[int, int]] = []
    entries = 0
    while at:
        count = _number(data, at, count_size, order)
        entries += count + 1
        if entries > _MAX_TIFF_ENTRIES:
            raise ValueError("too many directories, or a circular list")
        tags = {254: 0, 256: 0, 257: 0, 274: 1}  # the last one: 1 is upright
        first = at + count_size
        for entry in range(first, first + count * entry_size, entry_size):
            tag = _number(data, entry, 2, order)
            if tag in tags:
                size = {1: 1, 3: 2, 4: 4, 16: 8}.get(_number(data, entry + 2, 2, order), 4)
                tags[tag] = _number(data, entry + 4 + word, size, order)
        directories.append(tags)
        at = _number(data, first + count * entry_size, word, order)
    return directories


_FORMATS: tuple[tuple[bytes, Callable[[bytes], tuple[int, int] | None]], ...] = (
    (rb"\x89PNG\r\n\x1a\n", _png_size),
    (rb"\xff\xd8", _jpeg_size),
    (rb"GIF8[79]a", _gif_size),
    (rb"RIFF....WEBP", _webp_size),
    (rb"II[\x2a\x2b]\0|MM\0[\x2a\x2b]", _tiff_size),
    (rb"BM", _bmp_size),
    (rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51", _jp2_size),
    (rb"P[1-6]\s", _pnm_size),
)
