"""Label maps from PNG files: the stored numbers, not the colours of their display.

Of a PNG with a palette (Pascal VOC's, for example) the numbers are the palette's indices; of grey
ones with 1, 2 or 4 bits the stored values, which picture readers scale to 0..255. With 16 bits
the values must fit 8, but for 65535, which is read as 255.

Decoding is OpenCV's. It gets the size and the pixels alone, as grey: samples of a palette are
stored like grey ones, and palette, transparency and the like affect the display only.

Source of the layout: W3C, Portable Network Graphics (PNG) Specification, sections 5, 11.2 and 11.3.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dff_edge.errors import FrameError, SourceError
from dff_edge.files.regular import read_regular
from dff_edge.frames import LabelMap
from dff_edge.opencv import cv2
from dff_edge.runtime.sources.decoding.picture_size import check_size

NOT_SCORED = 255  # label of pixels that are left out of losses and scores

_WHAT = "a PNG of class numbers, with one channel or a palette"
_MAX_BYTES = 1 << 28
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _PALETTE = 0, 3
_KINDS = {2: "colours (RGB)", 4: "grey with transparency", 6: "colours with transparency (RGBA)"}
_NOT_SCORED_16 = 65535


class PngHeader(NamedTuple):
    """The header of a PNG."""

    width: int
    height: int
    depth: int  # bits of a sample
    kind: int  # 0 grey, 2 colours, 3 palette, 4 and 6 with transparency
    interlace: int


def read_label_png(path: Path) -> LabelMap:
    """Return the numbers in a label PNG, uint8 ``(H, W)``.

    Raises:
        SourceError: the file is missing, damaged, of absurd size, in colours, or has a number of
            256 and more.
    """
    data = read_regular(path, max_bytes=_MAX_BYTES, what=_WHAT, error=SourceError)
    header, pixels = _parse(data, path)
    if header.kind not in (_GREY, _PALETTE):
        raise SourceError(
            f"{path} holds {_KINDS.get(header.kind, f'colour type {header.kind}')}, expected "
            f"{_WHAT}. Save the class numbers, not the colours that they are shown in."
        )
    grey = _chunk(b"IHDR", struct.pack(">IIBBBBB", *header[:3], _GREY, 0, 0, header.interlace))
    plain = b"".join([_SIGNATURE, grey, _chunk(b"IDAT", pixels), _chunk(b"IEND", b"")])
    try:
        decoded = cv2.imdecode(np.frombuffer(plain, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise SourceError(f"{path} cannot be decoded: {error.err or error}.") from error
    if decoded is None or decoded.shape != (header.height, header.width):
        raise SourceError(f"{path} is damaged: its pixels cannot be decoded.")
    if header.depth == 16:
        return _in_8_bits(decoded, path)
    # OpenCV scales 1, 2 and 4 bits to 0..255.
    return np.asarray(decoded // (255 // (2**header.depth - 1)), np.uint8)


def _in_8_bits(decoded: object, path: Path) -> LabelMap:
    values = np.asarray(decoded, np.uint16)
    labels = np.where(values == _NOT_SCORED_16, NOT_SCORED, values)
    largest = int(labels.max())
    if largest > NOT_SCORED:
        raise SourceError(
            f"{path} has the number {largest}, expected class numbers of at most 254, or 255 "
            "(65535 in 16 bits) for what is not scored. Are these numbers of instances, or depths?"
        )
    return np.asarray(labels, np.uint8)


def _parse(data: bytes, path: Path) -> tuple[PngHeader, bytes]:
    """Return the header, and the compressed pixels."""
    if not data.startswith(_SIGNATURE):
        raise SourceError(f"{path} is no PNG, whatever its name; expected {_WHAT}.")
    header: PngHeader | None = None
    pixels: list[bytes] = []
    is_whole = False
    for kind, content in _chunks(data):
        if header is None:
            if kind != b"IHDR" or len(content) != 13:
                break
            width, height, depth, colour, _, _, interlace = struct.unpack(">IIBBBBB", content)
            header = PngHeader(width, height, depth, colour, interlace)
            try:
                check_size(height, width)  # before anything is decoded
            except FrameError as error:
                raise SourceError(f"{path} cannot be read: {error}.") from error
        elif kind == b"IDAT":
            pixels.append(content)
        elif kind == b"IEND":
            is_whole = True
            break
    if header is None or not pixels or not is_whole:
        raise SourceError(f"{path} is damaged or cut off: it is no whole PNG.")
    return header, b"".join(pixels)


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield kind and content of each chunk, up to the first damaged one."""
    at = len(_SIGNATURE)
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        end = at + 12 + length
        if end > len(data):
            return
        chunk = data[at + 4 : end - 4]
        if zlib.crc32(chunk) != int.from_bytes(data[end - 4 : end], "big"):
            return
        yield chunk[:4], chunk[4:]
        at = end


def _chunk(kind: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )
