"""Checks of the arrays that are passed to native kernels."""

from __future__ import annotations

from operator import index
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from dff_edge.errors import ConfigError, ShapeError

_MAX_THREADS = 256


def check_array(name: str, array: Any, dtype: DTypeLike, axes: tuple[str, ...]) -> None:
    """Raise unless ``array`` is a C-contiguous array of this dtype and these axes."""
    dtype = np.dtype(dtype)
    layout = f"{dtype.name} ({', '.join(axes)})"
    if not isinstance(array, np.ndarray):
        raise ShapeError(
            f"{name} is a {type(array).__name__}, expected a numpy array, {layout}. "
            "Convert it with numpy.asarray first."
        )
    if array.dtype != dtype:
        raise ShapeError(
            f"{name} has dtype {array.dtype}, expected {layout}. "
            f"Convert it with {name}.astype(numpy.{dtype.name})."
        )
    if array.ndim != len(axes):
        raise ShapeError(
            f"{name} has shape {array.shape}, expected {len(axes)} axes, {layout}. "
            f"Add or drop axes so that they are in this order."
        )
    if not (array.flags.c_contiguous and array.flags.aligned):
        raise ShapeError(
            f"{name} of shape {array.shape} has strides {array.strides}, expected a "
            f"C-contiguous array. Copy it with numpy.ascontiguousarray({name}); a transposed view "
            "of a channels-first map needs that too."
        )


def check_writeable(name: str, array: NDArray[Any]) -> None:
    """Raise for a read-only output array."""
    if not array.flags.writeable:
        raise ShapeError(f"{name} is read-only, expected an array to write to. Pass its own copy.")


def check_no_overlap(name: str, out: NDArray[Any], **inputs: NDArray[Any] | None) -> None:
    """Raise for an output that shares memory with an input. All are contiguous."""
    for input_name, array in inputs.items():
        # Bounds are enough: contiguous arrays have no gaps.
        if array is not None and np.may_share_memory(out, array):
            raise ShapeError(
                f"{name} overlaps {input_name} in memory, expected a buffer of its own. "
                f"Cells are read after their neighbours are written; allocate {name} separately."
            )


def check_threads(threads: int) -> int:
    """Return the number of threads as an int; raise if it is out of range."""
    try:
        count = index(threads)
    except TypeError:
        count = 0
    if not 1 <= count <= _MAX_THREADS:
        raise ConfigError(
            f"threads is {threads!r}, expected an integer from 1 to {_MAX_THREADS}. "
            "The number of cores is a good choice."
        )
    return count
