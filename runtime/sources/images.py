"""Frames from image files: a folder, a glob, or one image."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from dff_edge.runtime.errors import FrameError, SourceError
from dff_edge.runtime.frames import Frame, Image
from dff_edge.runtime.opencv import cv2
from dff_edge.runtime.resize import check_image
from dff_edge.runtime.sources.base import DEFAULT_FPS, PulledSource
from dff_edge.runtime.uri import IMAGE_SUFFIXES, SourceUri


class ImageSource(PulledSource):
    """Images in natural order (frame2 before frame10), stamped ``index / fps``.

    Grey, 16-bit and alpha images become 8-bit BGR; EXIF rotation is applied. A file that cannot be
    read is counted as failed and keeps its number. Hidden files and files without an image's
    suffix are passed over.
    """

    def __init__(self, uri: SourceUri) -> None:
        super().__init__(uri.text)
        self.fps: float = uri.per_second("fps") or DEFAULT_FPS
        self.paths = _find_images(uri.target)
        self.length = len(self.paths)
        self._look_ahead()
        if self._first is None:
            raise SourceError(
                f"'{uri.text}': none of the {self.length} images could be read; the first: "
                f"{self.counts.reasons[0]}"
            )

    def _frames(self) -> Iterator[Frame]:
        for index, path in enumerate(self.paths):
            try:
                image = read_image(path)
            except FrameError as error:
                self._skip(str(error))
                continue
            yield Frame(image, index, index / self.fps)


def read_image(path: str | Path, *, as_stored: bool = False) -> Image:
    """Read an image file as uint8 ``(H, W, 3)`` BGR.

    Args:
        path: of the file.
        as_stored: pass EXIF rotation over; labels and boxes of data sets are of the pixels as they
            are stored.

    Raises:
        FrameError: it is missing, damaged, cut off or of an unknown format.
    """
    try:
        if not os.path.isfile(path):  # a pipe would block for ever
            raise FrameError(f"'{path}' is missing or not a regular file")
        data = Path(path).read_bytes()
    except OSError as error:
        raise FrameError(f"'{path}' cannot be read: {error.strerror}") from error
    if not data:
        raise FrameError(f"'{path}' is empty (0 bytes)")
    if _is_cut_off(data):  # OpenCV 4 would fill the rest with grey
        raise FrameError(f"'{path}' is cut off: its end is missing")
    try:
        flags = cv2.IMREAD_COLOR | (cv2.IMREAD_IGNORE_ORIENTATION if as_stored else 0)
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise FrameError(f"'{path}' cannot be decoded: {error.err or error}") from error
    if image is None:
        raise FrameError(f"'{path}' is damaged or not an image that OpenCV reads")
    return check_image(image)


def natural_key(path: str) -> list[tuple[tuple[int, int, str], ...]]:
    """Sort key by which numbers inside names count as numbers."""
    return [
        tuple(
            (0, int(part), "") if part.isdecimal() else (1, 0, part.casefold())
            for part in re.split(r"(\d+)", name)
            if part
        )
        for name in Path(path).parts
    ]


def _find_images(target: str) -> list[str]:
    if os.path.isdir(target):
        try:
            found = [os.path.join(target, name) for name in os.listdir(target)]
        except OSError as error:
            raise SourceError(f"Folder '{target}' cannot be read: {error.strerror}") from error
        what = f"Folder '{target}' holds no images"
    elif os.path.lexists(target):
        found, what = [target], f"'{target}' is not an image"
    else:
        found = glob.glob(target, recursive=True)
        is_pattern = glob.has_magic(target)
        what = f"No image matches '{target}'" if is_pattern else f"There is no file '{target}'"
    images = [path for path in found if _has_image_name(path)]
    if not images:
        others = f" ({len(found)} other files)" if found else ""
        raise SourceError(f"{what}{others}; expected {', '.join(sorted(IMAGE_SUFFIXES))}.")
    return sorted(images, key=lambda path: (natural_key(path), path))


def _has_image_name(path: str) -> bool:
    name = os.path.basename(path)
    return not name.startswith(".") and Path(name).suffix.lower() in IMAGE_SUFFIXES


def _is_cut_off(data: bytes) -> bool:
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return b"IEND" not in data
    if data.startswith(b"\xff\xd8\xff"):
        scan = _jpeg_scan_start(data)
        return scan is None or data.find(b"\xff\xd9", scan) < 0
    return False


def _jpeg_scan_start(data: bytes) -> int | None:
    """Where the picture itself begins: behind the headers, one of which may hold a thumbnail."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        if data[at + 1] == 0xFF:  # fill byte
            at += 1
            continue
        if data[at + 1] == 0xDA:
            return at
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None
