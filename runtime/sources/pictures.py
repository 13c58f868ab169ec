"""From what FFmpeg decodes, through PyAV, to images; and its errors in plain words."""

from __future__ import annotations

from typing import Any

import numpy as np

from dff_edge.runtime.frames import Image
from dff_edge.runtime.resize import check_image


class ImageMaker:
    """Makes BGR images of a stream's decoded pictures, turned as its metadata says.

    Of pictures of one rotation only the first is asked for its whole matrix, which says whether it
    is mirrored too. Asking PyAV for a picture's side data ties the picture into a cycle, which
    keeps its memory until Python's garbage collection comes by, hundreds of pictures later.
    """

    def __init__(self) -> None:
        self._matrices: dict[int, np.ndarray[Any, np.dtype[np.int32]] | None] = {}

    def image_of(self, picture: Any) -> Image:
        """Give a picture as an image of its own.

        Raises:
            FrameError: it has no size that an image can have.
        """
        image = check_image(picture.to_ndarray(format="bgr24"))
        degrees = picture.rotation
        if degrees not in self._matrices:
            data = picture.side_data.get("DISPLAYMATRIX")
            matrix = None if data is None else np.frombuffer(data, np.int32).copy()
            self._matrices[degrees] = matrix
        matrix = self._matrices[degrees]
        return image if matrix is None else _turned(image, matrix)


def in_words(error: BaseException) -> str:
    """FFmpeg's words without its numbers and addresses."""
    words = getattr(error, "strerror", None) or str(error)
    return (
        str(words)
        .strip()
        .rstrip(".")
        .replace("Invalid data found when processing input", "invalid data")
    )


def _turned(image: Image, matrix: np.ndarray[Any, np.dtype[np.int32]]) -> Image:
    """Turn and mirror as a display matrix says: x' = a x + c y, y' = b x + d y."""
    a, b, c, d = (int(matrix[i]) for i in (0, 1, 3, 4))
    if abs(b) > abs(a):  # x of the file runs along y of the display
        image = image.transpose(1, 0, 2)
        a, d = c, b
    if a < 0:
        image = image[:, ::-1]
    if d < 0:
        image = image[::-1]
    return np.ascontiguousarray(image)
