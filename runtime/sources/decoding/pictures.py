"""Images from the pictures that FFmpeg decodes, through PyAV; and its errors in plain words.

Images are uint8 BGR with the full range, as in OpenCV:

- YCbCr is converted by the matrix and range that the stream states. Where it states no matrix it is
  BT.601, as in FFmpeg and OpenCV.
- More than 8 bits are brought to 8, grey by `GreyLevels`.
- HDR (PQ, HLG) and the wide primaries of BT.2020 are converted to BT.709 (`hdr`): reference white
  is white, and brighter parts are clipped.
- Pixels that are not square are made square: the picture is enlarged along its shorter unit.
- Rotation and mirroring of the metadata are applied.
"""

from __future__ import annotations

import logging
import re
from fractions import Fraction
from typing import Any

import numpy as np
from av.video.reformatter import VideoReformatter

from dff_edge.frames import Image
from dff_edge.opencv import cv2
from dff_edge.runtime.kernels.resize import check_image
from dff_edge.runtime.sources.decoding.grey_levels import GreyLevels
from dff_edge.runtime.sources.decoding.hdr import is_hdr, to_standard
from dff_edge.runtime.sources.decoding.picture_size import check_size

_LOG = logging.getLogger("dff_edge.runtime")
_DEEP_GREY = re.compile(r"gray(9|10|12|14|16|32|f16|f32)(le|be)")
_MOST_ASPECT = 4  # of a pixel: no video has longer ones, a damaged header may


class ImageMaker:
    """Makes BGR images of a stream's decoded pictures.

    Only the first picture of each rotation is queried for its whole matrix, which tells whether it
    is mirrored too. Querying PyAV for a picture's side data creates a reference cycle, which keeps
    the picture's memory until Python's garbage collection, hundreds of pictures later.

    Args:
        name: of the source, for the log.
        levels: of grey pictures.
    """

    def __init__(self, name: str = "", levels: GreyLevels | None = None) -> None:
        self._name = name
        self._levels = levels or GreyLevels()
        self._matrices: dict[int, np.ndarray[Any, np.dtype[np.int32]] | None] = {}
        self._reformatter = VideoReformatter()
        self._is_told = False

    def image_of(self, picture: Any, aspect: Fraction | None = None) -> Image:
        """Return a picture as an image in memory of its own.

        Args:
            picture: of PyAV.
            aspect: width of a pixel over its height; None where it is not stated.

        Raises:
            FrameError: its size is not valid for an image.
            GreyRangeError: it is grey, and its range must be given.
        """
        height, width = square_size(picture.height, picture.width, aspect)
        check_size(height, width)
        name = picture.format.name
        if name.startswith("gray") and (self._levels.is_given or _DEEP_GREY.fullmatch(name)):
            image = self._grey(picture, (height, width))
        elif is_hdr(picture.color_trc, picture.color_primaries):
            image = self._standard_range(picture, (height, width))
        else:
            image = check_image(self._scaled(picture, (height, width), "bgr24"))
        return self._upright(image, picture)

    def _scaled(self, picture: Any, size: tuple[int, int], name: str) -> Any:
        height, width = size
        scaled = self._reformatter.reformat(picture, width=width, height=height, format=name)
        return scaled.to_ndarray()

    def _grey(self, picture: Any, size: tuple[int, int]) -> Image:
        grey = picture.to_ndarray()
        if grey.shape != size:
            grey = cv2.resize(grey, size[::-1], interpolation=cv2.INTER_LINEAR)
        bits = picture.format.components[0].bits
        return self._levels.to_image(grey, white=(1 << bits) - 1 if bits < 16 else None)

    def _standard_range(self, picture: Any, size: tuple[int, int]) -> Image:
        if not self._is_told:
            self._is_told = True
            _LOG.warning(
                "%s: is HDR or of wide colours (BT.2020), and is converted to BT.709: its "
                "reference white is white, brighter parts are clipped",
                self._name,
            )
        signal = self._scaled(picture, size, "rgb48le")
        return to_standard(signal, picture.color_trc, picture.color_primaries)

    def _upright(self, image: Image, picture: Any) -> Image:
        degrees = picture.rotation
        if degrees not in self._matrices:
            data = picture.side_data.get("DISPLAYMATRIX")
            matrix = None if data is None else np.frombuffer(data, np.int32).copy()
            self._matrices[degrees] = matrix
        matrix = self._matrices[degrees]
        return image if matrix is None else _turned(image, matrix)


def square_size(height: int, width: int, aspect: Fraction | None) -> tuple[int, int]:
    """Return the size ``(H, W)`` of a picture with square pixels; no side becomes smaller.

    Example:
        >>> square_size(288, 360, Fraction(64, 45))
        (288, 512)
    """
    if not aspect or not Fraction(1, _MOST_ASPECT) <= aspect <= _MOST_ASPECT:
        return height, width
    if aspect >= 1:
        return height, round(width * aspect)
    return round(height / aspect), width


def in_words(error: BaseException) -> str:
    """Return FFmpeg's message without its numbers and addresses."""
    words = getattr(error, "strerror", None) or str(error)
    return (
        str(words)
        .strip()
        .rstrip(".")
        .replace("Invalid data found when processing input", "invalid data")
    )


def _turned(image: Image, matrix: np.ndarray[Any, np.dtype[np.int32]]) -> Image:
    """Rotate and mirror by a display matrix: x' = a x + c y, y' = b x + d y."""
    a, b, c, d = (int(matrix[i]) for i in (0, 1, 3, 4))
    if abs(b) > abs(a):  # x of the file runs along y of the display
        image = image.transpose(1, 0, 2)
        a, d = c, b
    if a < 0:
        image = image[:, ::-1]
    if d < 0:
        image = image[::-1]
    return np.ascontiguousarray(image)
