"""Inputs and outputs of nodes: types, shapes, and the numbers of stored ones."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dff_edge.bundle.graphs.onnx_file import Node
from dff_edge.bundle.graphs.protobuf import WireError

Shape = tuple[int, ...]

FLOAT, HALF = np.dtype(np.float32), np.dtype(np.float16)
INT8, UINT8 = np.dtype(np.int8), np.dtype(np.uint8)
INT32, INT64, BOOL = np.dtype(np.int32), np.dtype(np.int64), np.dtype(np.bool_)
FLOATS, BYTES = (FLOAT, HALF), (UINT8, INT8)

MAX_RANK = 6


class Value(NamedTuple):
    """A tensor that a node reads or computes.

    Attributes:
        dtype, shape: of the tensor.
        is_stored: whether it is a constant of the graph.
        values: its numbers; None where it is computed, or they were skipped.
        is_most: whether there may be fewer rows than the shape states, down to none.
    """

    dtype: np.dtype[Any]
    shape: Shape
    is_stored: bool = False
    values: NDArray[Any] | None = None
    is_most: bool = False

    @property
    def bytes(self) -> int:
        """Size in memory."""
        return prod(self.shape) * self.dtype.itemsize


class Outcome(NamedTuple):
    """Outputs and costs of a node.

    Attributes:
        outputs: in order.
        work: number of steps: additions, products, comparisons.
        scratch_bytes: maximum memory of a kernel beside inputs and outputs.
    """

    outputs: tuple[Value, ...]
    work: int
    scratch_bytes: int = 0


Inputs = Sequence[Value]


def one(dtype: np.dtype[Any], shape: Shape) -> Outcome:
    """Return an outcome of one value, a step for each number."""
    return Outcome((Value(dtype, shape),), prod(shape))


def check(is_fit: bool, expected: str, inputs: Inputs) -> None:
    """Raise unless inputs are as expected; ``expected`` continues a sentence after "which"."""
    if not is_fit:
        told = ", ".join(f"{value.dtype.name} {list(value.shape)}" for value in inputs)
        raise WireError(f"which {expected}, with the inputs {told or 'of none'}")


def stored(
    value: Value, what: str, shape: Shape | None = None, dtype: np.dtype[Any] = INT64
) -> NDArray[Any]:
    """Return the numbers of a stored input; ``what`` names them in the error if it is not."""
    has_shape = shape is None or value.shape == shape
    if value.values is None or not has_shape or value.dtype != dtype:
        raise WireError(f"which has {what} stored, {dtype.name} {shape or value.shape}")
    return value.values


def number(node: Node, name: str, default: float = 0) -> float:
    """Read an attribute that is a number."""
    value = node.attributes.get(name, default)
    assert isinstance(value, (int, float))
    return value


def numbers(node: Node, name: str, default: Shape) -> Shape:
    """Read an attribute that is a list of numbers."""
    value = node.attributes.get(name, default)
    assert isinstance(value, tuple)
    return value


def axis_of(node: Node, shape: Shape, default: int = 0) -> int:
    """Read the axis of a node, counted from the front."""
    axis = int(number(node, "axis", default))
    if not -len(shape) <= axis < len(shape):
        raise WireError(f"which has the axis {axis}, of a tensor of {len(shape)}")
    return axis % len(shape)
