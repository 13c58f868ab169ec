"""Images of any size, resized to the two sizes that the networks read.

Convention (docs/design/networks.md): the image is resized to H x W and, separately, to H/2 x W/2.
It is halved, as means of four pixels, while it stays at least as large as the target; the rest is
bilinear, or averaged over areas where a side is still more than 2.25 times too long. Averaging
over areas all the way takes many times as long where the factors are fractions, 1080p for example
(benchmarks/resize.py).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dff_edge.errors import FrameError, ShapeError
from dff_edge.frames import Image
from dff_edge.opencv import cv2

_BILINEAR_SHRINK = 2.25  # beyond, bilinear interpolation skips more than a tenth of the pixels
MAX_SIDE_PX = 16384  # beyond any camera; a larger size is a damaged header or a mistake


def check_image(image: Any) -> Image:
    """Return an image as uint8 ``(H, W, 3)`` BGR, C-contiguous, or raise.

    Grey ``(H, W)`` and ``(H, W, 1)`` become BGR, the alpha of ``(H, W, 4)`` is dropped. An image
    that needs no change is returned as it is, not copied.

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


def resize_image(
    image: Image, out: Image, scratch: dict[tuple[int, int], Image] | None = None
) -> None:
    """Resize ``image`` to the size of ``out``, C-contiguous uint8 ``(H, W, 3)``, in place.

    Args:
        scratch: buffers for intermediate images, by size, reused by the next call.
    """
    height, width = out.shape[:2]
    scratch = {} if scratch is None else scratch
    while _can_halve(image.shape[0], height) and _can_halve(image.shape[1], width):
        size = (image.shape[0] // 2, image.shape[1] // 2)
        if size == (height, width):
            cv2.resize(image, size[::-1], dst=out, interpolation=cv2.INTER_AREA)
            return
        if size not in scratch:
            scratch[size] = np.empty((*size, 3), np.uint8)
        cv2.resize(image, size[::-1], dst=scratch[size], interpolation=cv2.INTER_AREA)
        image = scratch[size]
    shrink = (image.shape[0] / height, image.shape[1] / width)
    if shrink == (1, 1):
        np.copyto(out, image)
        return
    is_far = max(shrink) > _BILINEAR_SHRINK and min(shrink) > 1
    method = cv2.INTER_AREA if is_far else cv2.INTER_LINEAR
    cv2.resize(image, (width, height), dst=out, interpolation=method)


def _can_halve(side: int, wanted: int) -> bool:
    return side % 2 == 0 and side // 2 >= wanted


class FrameResizer:
    """Fills the preallocated inputs of the feature and the flow network.

    Args:
        frame_size: ``(H, W)`` of the feature network's input; both even.

    Images must have passed ``check_image``. Not thread-safe: intermediate images are kept, so
    that frames of one size are resized without allocating.
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
        self._scratch: dict[tuple[int, int], Image] = {}
        self._source_size: tuple[int, ...] = ()

    def full(self, image: Image, out: NDArray[np.uint8]) -> None:
        """Write the image at the network's size into ``out``, uint8 ``(1, H, W, 3)``."""
        self._fill(image, out, self.frame_size)

    def half(self, image: Image, out: NDArray[np.uint8]) -> None:
        """Write the image at half that size into ``out``, uint8 ``(1, H/2, W/2, 3)``."""
        self._fill(image, out, self.half_size)

    def _fill(self, image: Image, out: NDArray[np.uint8], size: tuple[int, int]) -> None:
        expected = (1, *size, 3)
        if out.shape != expected or out.dtype != np.uint8 or not out.flags.c_contiguous:
            raise ShapeError(
                f"out is {out.dtype} {out.shape}, expected C-contiguous uint8 {expected}. Allocate "
                f"it once with numpy.empty({expected}, numpy.uint8)."
            )
        if image.shape != self._source_size:
            self._source_size = image.shape
            self._scratch.clear()
        resize_image(image, out[0], self._scratch)


def _as_image(image: Any) -> Image:
    contiguous: Image = np.ascontiguousarray(image)
    return contiguous


def _dtype_advice(dtype: np.dtype[Any]) -> str:
    if dtype.kind == "f":
        return "If its values are 0..1: (image * 255).round().astype(numpy.uint8)"
    if dtype == np.uint16:
        return "If its values fill 16 bits: (image >> 8).astype(numpy.uint8)"
    return "Convert it with .astype(numpy.uint8) after checking that its values are 0..255."
