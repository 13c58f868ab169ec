"""The CUDA kernels, libdff_cuda.so: warp, resize and decode. See ``plugins/cuda/dff_cuda.h``."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import numpy as np

from dff_edge import _native
from dff_edge.errors import EngineError, MissingDependencyError

LIBRARY_VARIABLE = "DFF_CUDA_LIBRARY"

ELEMENTS = {np.dtype(np.float32): 0, np.dtype(np.float16): 1, np.dtype(np.int8): 2}
_CHANNELS_LAST = 0

_ARGUMENTS = {
    "dff_cuda_warp": [ctypes.c_void_p] * 4
    + [ctypes.c_int64] * 4
    + [ctypes.c_int, ctypes.c_int, ctypes.c_float, ctypes.c_void_p],
    "dff_cuda_resize": [ctypes.c_void_p]
    + [ctypes.c_int64] * 3
    + [ctypes.c_void_p]
    + [ctypes.c_int64] * 2
    + [ctypes.c_void_p],
    "dff_cuda_decode": [ctypes.c_void_p]
    + [ctypes.c_int64] * 3
    + [ctypes.c_void_p]
    + [ctypes.c_int64] * 2
    + [ctypes.c_void_p] * 2,
}


class Kernels:
    """The library's functions; each enqueues one kernel in the current context.

    Pointers are to memory on the device. Sizes are checked by the kernels.

    Raises:
        MissingDependencyError: when the library was not built.
        EngineError: when it does not load.
    """

    def __init__(self) -> None:
        path = library_path()
        try:
            self._library = ctypes.CDLL(str(path))
            for name, arguments in _ARGUMENTS.items():
                function = getattr(self._library, name)
                function.argtypes, function.restype = arguments, ctypes.c_int
            message = self._library.dff_cuda_message
            message.argtypes, message.restype = [ctypes.c_int], ctypes.c_char_p
        except (OSError, AttributeError) as error:
            raise EngineError(
                f"the CUDA kernels in {path} cannot be used: {error}. Build them again: "
                "pip install . -C cmake.define.DFF_CUDA=ON"
            ) from error

    def warp(
        self,
        features: int,
        flow: int,
        scale: int | None,
        out: int,
        shape: tuple[int, int, int, int],
        dtype: np.dtype[np.generic],
        scale_step: float,
        stream: int,
    ) -> None:
        """Enqueue feature propagation, Eq. (3), of channels-last maps ``(N, h, w, C)``."""
        element = ELEMENTS[dtype]
        self._call(
            "dff_cuda_warp",
            *(features, flow, scale, out, *shape, element, _CHANNELS_LAST, scale_step, stream),
        )

    def resize(
        self,
        image: int,
        size: tuple[int, int],
        row_bytes: int,
        out: int,
        out_size: tuple[int, int],
        stream: int,
    ) -> None:
        """Enqueue the resizing of a uint8 image ``(H, W, 3)``; sizes are ``(H, W)``."""
        self._call("dff_cuda_resize", image, *size, row_bytes, out, *out_size, stream)

    def decode(
        self,
        scores: int,
        shape: tuple[int, int, int],
        labels: int,
        size: tuple[int, int],
        confidence: int | None,
        stream: int,
    ) -> None:
        """Enqueue the decoding of float32 scores ``(h, w, K)`` to uint8 labels of ``(H, W)``."""
        self._call("dff_cuda_decode", scores, *shape, labels, *size, confidence, stream)

    def _call(self, name: str, *arguments: float | None) -> None:
        status = getattr(self._library, name)(*arguments)
        if status != 0:
            message = self._library.dff_cuda_message(status).decode()
            raise EngineError(f"{name} failed: {message} (status {status}).")


def library_path() -> Path:
    """Return the library's path: ``$DFF_CUDA_LIBRARY``, or beside the native module.

    Raises:
        MissingDependencyError: when there is no such file.
    """
    named = os.environ.get(LIBRARY_VARIABLE)
    path = Path(named or Path(_native.__file__).parent / "libdff_cuda.so").absolute()
    if not path.is_file():
        told = f"{LIBRARY_VARIABLE} names {path}" if named else f"expected {path}"
        raise MissingDependencyError(
            f"the CUDA kernels are missing, {told}. Build them, with the CUDA toolkit installed: "
            "pip install . -C cmake.define.DFF_CUDA=ON"
        )
    return path
