"""From a user's image of any size to the two sizes that the networks read.

Convention (docs/architecture.md): the image is stretched to H x W and, separately, to H/2 x W/2;
area averaging when both sides shrink, bilinear otherwise.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dff_edge.runtime.errors import FrameError, ShapeError
from dff_edge.runtime.frames import Image

MAX_SIDE_PX = 16384  # beyond any camera; a larger size is a damaged header or a mistake


def check_image(image: Any) -> Image:
    """Give an image as uint8 ``(H, W, 3)`` BGR, C-contiguous, or refuse it.

    Grey ``(H, W)`` and ``(H, W, 1)`` become BGR, the alpha of ``(H, W, 4)`` is dropped. What needs
    no change is returned as it is, not copied.

    Raises:
        FrameError: not an array, not uint8, empty, a side above 16384 pixels, or other axes.
    """
    if not isinstance(image, np.ndarray):
        raise FrameError(
            f"The frame is a {type(image).__name__}, expected a numpy array uint8 (H, W, 3) in BGR "
            "order. For a PIL image: numpy.asarray(image.convert('RGB'))[:, :, ::-1]"
        )
    if image.dtype != np.uint8:
        raise FrameError(
            f"The frame has dtype {image.dtype}, expected uint8. " + _dtype_advice(image.dtype)
        )
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3, 4)):
        raise FrameError(
            f"The frame has shape {image.shape}, expected (H, W, 3), or grey (H, W), or with alpha "
            "(H, W, 4). Channels come last; submit the frames of a batch one by one."
        )
    height, width = image.shape[:2]
    if not height or not width:
        raise FrameError(
            f"The frame is empty, shape {image.shape}. A failed cv2.imread or capture.read() "
            "gives no image: check what it returned."
        )
    if max(height, width) > MAX_SIDE_PX:
        raise FrameError(
            f"The frame is {width} x {height} pixels, expected at most {MAX_SIDE_PX} on each side. "
            "Scale it down, or submit tiles of it."
        )
    if image.ndim == 2 or image.shape[2] == 1:
        grey = np.ascontiguousarray(image.reshape(height, width))
        return _as_image(cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR))
    if image.shape[2] == 4:
        return _as_image(cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_BGRA2BGR))
    return _as_image(image)


def resize_image(image: Image, out: Image) -> None:
    """Stretch ``image`` to the size of ``out``, C-contiguous uint8 ``(H, W, 3)``, in place."""
    height, width = out.shape[:2]
    source_height, source_width = image.shape[:2]
    if (source_height, source_width) == (height, width):
        np.copyto(out, image)
        return
    both_shrink = source_height > height and source_width > width
    method = cv2.INTER_AREA if both_shrink else cv2.INTER_LINEAR
    cv2.resize(image, (width, height), dst=out, interpolation=method)


class FrameResizer:
    """Fills the preallocated inputs of the feature and the flow network.

    Args:
        frame_size: ``(H, W)`` of the feature network's input; both even.

    Images must have passed ``check_image``. Holds no state: safe from several threads.
    """

    def __init__(self, frame_size: tuple[int, int]) -> None:
        height, width = frame_size
        if height < 2 or width < 2 or height % 2 or width % 2:
            raise ShapeError(
                f"frame_size is {frame_size}, expected an even height and width, at least 2: the "
                "flow network reads half of each."
            )
        self.frame_size = (height, width)
        self.half_size = (height // 2, width // 2)

    def full(self, image: Image, out: NDArray[np.uint8]) -> None:
        """Write the image at the network's size into ``out``, uint8 ``(1, H, W, 3)``."""
        _fill(image, out, self.frame_size)

    def half(self, image: Image, out: NDArray[np.uint8]) -> None:
        """Write the image at half that size into ``out``, uint8 ``(1, H/2, W/2, 3)``."""
        _fill(image, out, self.half_size)


def _fill(image: Image, out: NDArray[np.uint8], size: tuple[int, int]) -> None:
    expected = (1, *size, 3)
    if out.shape != expected or out.dtype != np.uint8 or not out.flags.c_contiguous:
        raise ShapeError(
            f"out is {out.dtype} {out.shape}, expected C-contiguous uint8 {expected}. Allocate "
            f"it once with numpy.empty({expected}, numpy.uint8)."
        )
    resize_image(image, out[0])


def _as_image(image: Any) -> Image:
    contiguous: Image = np.ascontiguousarray(image)
    return contiguous


def _dtype_advice(dtype: np.dtype[Any]) -> str:
    if dtype.kind == "f":
        return "If its values are 0..1: (image * 255).round().astype(numpy.uint8)"
    if dtype == np.uint16:
        return "If its values fill 16 bits: (image >> 8).astype(numpy.uint8)"
    return "Convert it with .astype(numpy.uint8) after checking that its values are 0..255."
