"""Frames from image files: a folder, a glob, or one image."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from dff_edge.errors import FrameError, SourceError
from dff_edge.frames import Frame, Image
from dff_edge.opencv import cv2
from dff_edge.runtime.kernels.resize import check_image
from dff_edge.runtime.sources.base import DEFAULT_FPS, PulledSource
from dff_edge.runtime.sources.decoding.grey_levels import GreyLevels, GreyRangeError
from dff_edge.runtime.sources.decoding.pages import Page, count_pages, read_pages
from dff_edge.uri import IMAGE_SUFFIXES, SourceUri

_MAX_FILE_BYTES = 4 << 30  # read whole: pages of a TIFF, pictures of an animation


class ImageSource(PulledSource):
    """Images in natural order (frame2 before frame10), stamped ``index / fps``.

    Images of 16 bits, with alpha, or in CMYK become 8-bit BGR; grey of more than 8 bits needs a
    ``?range=`` (`GreyLevels`); EXIF rotation is applied. Animations (WebP, PNG) and TIFFs of
    several pages yield all their pictures. A single animation has its own times, unless ``?fps=``
    is given. A picture that cannot be read is counted as failed and keeps its number. Hidden
    files and files without the suffix of an image are skipped.
    """

    def __init__(self, uri: SourceUri) -> None:
        super().__init__(uri.text)
        fps = uri.per_second("fps")
        self.fps: float = fps or DEFAULT_FPS
        self.paths = _find_images(uri.target)
        self.length: int = len(self.paths)
        self._has_own_times = fps is None and len(self.paths) == 1
        self._levels = GreyLevels(uri)
        self._look_ahead()
        if self._first is None:
            first = self.counts.reasons[0]
            if len(self.paths) == 1:
                raise SourceError(f"{first}.")
            raise SourceError(
                f"'{uri.text}': none of the {len(self.paths)} images could be read; the first: "
                f"{first}"
            )

    def _frames(self) -> Iterator[Frame]:
        index = 0
        time_s = 0.0
        for path in self.paths:
            count = 1
            end = index + 1
            try:
                data = _read_file(path)
                count = count_pages(data)
                self.length += count - 1
                end = index + count
                for page in read_pages(data):
                    image = _to_image(page, self._levels)
                    stamp_s = index / self.fps
                    if self._has_own_times and page.duration_s is not None:
                        duration_s = page.duration_s if page.duration_s > 0.01 else 0.1  # browsers'
                        self.fps = 1 / duration_s if not index else self.fps
                        stamp_s, time_s = time_s, time_s + duration_s
                    yield Frame(image, index, stamp_s)
                    index += 1
            except FrameError as error:
                for _ in range(index, max(end, index + 1)):
                    self._skip(f"'{path}': {error}")
            index = max(end, index)


def read_image(path: str | Path, *, as_stored: bool = False) -> Image:
    """Read an image file of one picture as uint8 ``(H, W, 3)`` BGR.

    Args:
        path: of the file.
        as_stored: ignore EXIF rotation; labels and boxes of data sets belong to the pixels as they
            are stored.

    Raises:
        FrameError: it is missing, damaged, cut off, of an unknown format, of several pictures, or
            its values have a range that it does not state.
    """
    try:
        data = _read_file(path)
        count = count_pages(data)
        if count > 1:
            raise FrameError(f"it holds {count} pictures, expected one")
        (page,) = read_pages(data, as_stored=as_stored)
        return _to_image(page, GreyLevels())
    except GreyRangeError as error:
        raise FrameError(
            f"'{path}' is grey of more than 8 bits, which do not define black and white; "
            "convert it to 8 bits, by the same limits as all others"
        ) from error
    except FrameError as error:
        raise FrameError(f"'{path}': {error}") from error


def natural_key(path: str) -> list[tuple[tuple[int, int, str], ...]]:
    """Return a sort key by which numbers inside names count as numbers."""
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


def _read_file(path: str | Path) -> bytes:
    try:
        if not os.path.isfile(path):  # a pipe would block for ever
            raise FrameError("it is missing or not a regular file")
        size = os.path.getsize(path)
        if size > _MAX_FILE_BYTES:
            raise FrameError(
                f"it has {size:,} bytes, expected {_MAX_FILE_BYTES:,} at most; divide it into "
                "several files"
            )
        data = Path(path).read_bytes()
    except OSError as error:
        raise FrameError(f"it cannot be read: {error.strerror}") from error
    if not data:
        raise FrameError("it is empty (0 bytes)")
    return data


def _to_image(page: Page, levels: GreyLevels) -> Image:
    pixels = page.pixels
    if pixels.ndim == 2:
        return check_image(levels.to_image(pixels, white=page.white))
    if pixels.dtype == np.uint16:
        return check_image(cv2.convertScaleAbs(pixels, alpha=255 / (page.white or 65535)))
    if pixels.dtype != np.uint8:
        raise FrameError(
            f"its colours are {pixels.dtype}, expected 8 or 16 bits; convert it, as only you know "
            "which values are black and white"
        )
    return check_image(pixels)
