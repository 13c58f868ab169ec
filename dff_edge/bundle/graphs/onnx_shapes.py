"""Output shapes and types of each operator of a bundle's graphs, and its costs.

The graphs are static: every shape follows from the inputs' and from stored numbers. Only the
number of rows that NonMaxSuppression returns depends on the frame; there a shape states the
maximum, and such rows may only be sliced, gathered and scattered, for kernels rely on maps that
are not empty.

A rule is called with a node whose attributes were checked (``onnx_operators``) and returns its
outputs; where the inputs do not fit, it raises ``WireError`` with the rest of the sentence "has the
Conv node 'x', ...".

Source: operator sets 17 to 19 of ONNX, https://onnx.ai/onnx/operators.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from dff_edge.bundle.graphs.onnx_file import Node, Tensor
from dff_edge.bundle.graphs.onnx_values import (
    BOOL,
    BYTES,
    FLOAT,
    FLOATS,
    HALF,
    INT8,
    INT32,
    INT64,
    MAX_RANK,
    Inputs,
    Outcome,
    Shape,
    Value,
    axis_of,
    check,
    number,
    numbers,
    one,
    stored,
)

CAST_TYPES: dict[int, np.dtype[Any]] = {1: FLOAT, 6: INT32, 10: HALF}
MAX_PAIRS = 1 << 29  # seconds; 6,000 candidates and 300 proposals have 2 million


def same(node: Node, inputs: Inputs) -> Outcome:
    """Return the first input's type and shape: for elementwise operators."""
    first = inputs[0]
    return one(first.dtype, first.shape)


def float_map(node: Node, inputs: Inputs) -> Outcome:
    """Infer Relu, Exp and their like."""
    check(inputs[0].dtype in FLOATS, "reads floats", inputs)
    return same(node, inputs)


def clip(node: Node, inputs: Inputs) -> Outcome:
    """Infer Clip with stored limits: both of floats, the lower of bytes."""
    is_known = inputs[0].dtype in (FLOATS if len(inputs) == 3 else BYTES)
    check(is_known, "reads floats and two limits, or bytes and one", inputs)
    for limit in inputs[1:]:
        check(limit.is_stored and limit.shape == (), "has stored limits", inputs)
        check(limit.dtype == inputs[0].dtype, "has limits of its own type", inputs)
    return same(node, inputs)


def cast(node: Node, inputs: Inputs) -> Outcome:
    """Infer Cast; floats become no integers, so that no computed number can be an index."""
    wanted: np.dtype[Any] = CAST_TYPES[int(number(node, "to"))]
    is_safe = wanted != INT32 or inputs[0].dtype in (INT64, BOOL)
    check(is_safe, "casts no floats to integers", inputs)
    return one(wanted, inputs[0].shape)


def arithmetic(node: Node, inputs: Inputs) -> Outcome:
    """Infer Add, Sub, Mul, Div, Max and Min of two."""
    first, second = inputs
    is_fit = first.dtype == second.dtype and first.dtype in (*FLOATS, INT64)
    check(is_fit, "reads two of a type", inputs)
    if node.operator == "Div" and first.dtype == INT64:
        # The smallest integer by -1 stops the process, as does a division by zero.
        divisor = stored(second, "an integer divisor")
        check(bool((divisor >= 1).all()), "divides integers by stored ones of 1 and more", inputs)
    return one(first.dtype, _broadcast(inputs))


def compare(node: Node, inputs: Inputs) -> Outcome:
    """Infer Greater and Less of floats."""
    first, second = inputs
    check(first.dtype == second.dtype == FLOAT, "compares floats", inputs)
    return one(BOOL, _broadcast(inputs))


def both(node: Node, inputs: Inputs) -> Outcome:
    """Infer And."""
    check(all(value.dtype == BOOL for value in inputs), "reads truths", inputs)
    return one(BOOL, _broadcast(inputs))


def where(node: Node, inputs: Inputs) -> Outcome:
    """Infer Where."""
    choice, first, second = inputs
    is_fit = choice.dtype == BOOL and first.dtype == second.dtype
    check(is_fit, "chooses by a truth between two of a type", inputs)
    return one(first.dtype, _broadcast(inputs))


def softmax(node: Node, inputs: Inputs) -> Outcome:
    """Infer Softmax over one axis."""
    check(inputs[0].dtype in FLOATS, "reads floats", inputs)
    axis_of(node, inputs[0].shape, default=-1)
    return same(node, inputs)


def reduce_all(node: Node, inputs: Inputs) -> Outcome:
    """Infer ReduceSum over all axes, which stay with size 1."""
    (value,) = inputs
    check(value.dtype in (FLOAT, INT32), "adds floats or integers", inputs)
    return Outcome((Value(value.dtype, (1,) * len(value.shape)),), prod(value.shape))


def concat(node: Node, inputs: Inputs) -> Outcome:
    """Infer Concat along an axis."""
    first = inputs[0]
    axis = axis_of(node, first.shape)
    rest = [(*value.shape[:axis], *value.shape[axis + 1 :]) for value in inputs]
    is_fit = all(
        len(value.shape) == len(first.shape) and value.dtype == first.dtype and own == rest[0]
        for value, own in zip(inputs, rest, strict=True)
    )
    check(is_fit, "joins tensors that differ along its axis alone", inputs)
    joined = sum(value.shape[axis] for value in inputs)
    return one(first.dtype, (*first.shape[:axis], joined, *first.shape[axis + 1 :]))


def transpose(node: Node, inputs: Inputs) -> Outcome:
    """Infer Transpose by a stated order."""
    (value,) = inputs
    order = numbers(node, "perm", ())
    check(sorted(order) == list(range(len(value.shape))), "has an order of all axes", inputs)
    return one(value.dtype, tuple(value.shape[axis] for axis in order))


def reshape(node: Node, inputs: Inputs) -> Outcome:
    """Infer Reshape to a stored shape."""
    value = inputs[0]
    wanted = [int(size) for size in stored(inputs[1], "a shape").ravel()]
    check(len(wanted) <= MAX_RANK, f"has at most {MAX_RANK} axes", inputs)
    if not number(node, "allowzero"):
        kept = (*value.shape, *[0] * len(wanted))
        wanted = [kept[at] if size == 0 else size for at, size in enumerate(wanted)]
    total, known = prod(value.shape), prod(size for size in wanted if size != -1)
    if wanted.count(-1) == 1 and known > 0:
        wanted[wanted.index(-1)] = total // known
    check(min(wanted, default=0) >= 0 and prod(wanted) == total, "keeps all elements", inputs)
    return one(value.dtype, tuple(wanted))


def take_slice(node: Node, inputs: Inputs) -> Outcome:
    """Infer Slice with stored ends and steps of one."""
    value = inputs[0]
    starts, ends, axes = (
        [int(end) for end in stored(own, "its ends").ravel()] for own in inputs[1:4]
    )
    is_plain = len(starts) == len(ends) == len(axes) == len(set(axes))
    check(is_plain, "has a start and an end for each axis", inputs)
    if len(inputs) > 4:
        steps = stored(inputs[4], "its steps").ravel()
        check(len(steps) == len(axes) and bool((steps == 1).all()), "has steps of 1", inputs)
    shape = list(value.shape)
    for start, end, axis in zip(starts, ends, axes, strict=True):
        check(0 <= axis < len(shape), "cuts axes that there are", inputs)
        check(axis > 0 or not value.is_most, "cuts no rows of which there may be fewer", inputs)
        start, end, _ = slice(start, end).indices(shape[axis])
        shape[axis] = max(0, end - start)
    cut = Value(value.dtype, tuple(shape), is_most=value.is_most)
    return Outcome((cut,), prod(shape))


def gather(node: Node, inputs: Inputs) -> Outcome:
    """Infer Gather of rows."""
    value, places = inputs
    check(places.dtype == INT64 and len(value.shape) > 0, "takes rows by integers", inputs)
    return one(value.dtype, (*places.shape, *value.shape[1:]))


def gather_places(node: Node, inputs: Inputs) -> Outcome:
    """Infer GatherND."""
    value, places = inputs
    depth = _place_depth(value, places, inputs)
    shape = (*places.shape[:-1], *value.shape[depth:])
    return Outcome((Value(value.dtype, shape, is_most=places.is_most),), prod(shape))


def scatter_places(node: Node, inputs: Inputs) -> Outcome:
    """Infer ScatterND."""
    value, places, updates = inputs
    depth = _place_depth(value, places, inputs)
    check(updates.is_most == places.is_most, "has a value for each place", inputs)
    is_fit = updates.shape == (*places.shape[:-1], *value.shape[depth:])
    check(is_fit and updates.dtype == value.dtype, "has a value for each place", inputs)
    return Outcome((Value(value.dtype, value.shape),), prod(value.shape) + prod(updates.shape))


def top(node: Node, inputs: Inputs) -> Outcome:
    """Infer TopK of a vector."""
    value = inputs[0]
    (count,) = stored(inputs[1], "how many", shape=(1,))
    check(value.dtype in FLOATS and len(value.shape) == 1, "reads a vector", inputs)
    check(1 <= count <= value.shape[0], "takes no more than there are", inputs)
    shape = (int(count),)
    outputs = (Value(value.dtype, shape), Value(INT64, shape))
    return Outcome(outputs, 32 * value.shape[0], 16 * value.shape[0])  # sorting: log2 of 2^31


def suppress(node: Node, inputs: Inputs) -> Outcome:
    """Infer NonMaxSuppression of one frame; the shape is the maximum."""
    boxes, scores = inputs[:2]
    (most,) = stored(inputs[2], "how many", shape=(1,))
    limits = [stored(own, "its limits", (1,), FLOAT)[0] for own in inputs[3:]]
    check(boxes.dtype == scores.dtype == FLOAT, "reads floats", inputs)
    count = scores.shape[-1] if scores.shape else 0
    is_fit = len(scores.shape) == 3 and boxes.shape == (1, count, 4) and scores.shape[0] == 1
    check(is_fit and most >= 0, "reads boxes (1, n, 4) and scores (1, K, n)", inputs)
    check(0 <= limits[0] <= 1 and bool(np.isfinite(limits[1])), "has sane limits", inputs)
    classes, most = scores.shape[1], min(int(most), count)
    pairs = classes * count * most
    check(pairs <= MAX_PAIRS, f"compares at most {MAX_PAIRS} pairs of boxes", inputs)
    work = 16 * pairs + 32 * classes * count  # a comparison takes as long as 16 products
    chosen = Value(INT64, (classes * most, 3), is_most=True)
    return Outcome((chosen,), work, 64 * classes * count)


def matmul(node: Node, inputs: Inputs) -> Outcome:
    """Infer MatMul of stacks of matrices."""
    left, right = inputs
    is_fit = left.dtype == right.dtype and left.dtype in FLOATS
    is_fit = is_fit and len(left.shape) >= 2 and len(right.shape) == 2
    check(is_fit and left.shape[-1] == right.shape[0], "multiplies matrices that fit", inputs)
    shape = (*left.shape[:-1], right.shape[1])
    return Outcome((Value(left.dtype, shape),), prod(shape) * right.shape[0], right.bytes)


def gemm(node: Node, inputs: Inputs) -> Outcome:
    """Infer Gemm without transposing, and a bias for each column."""
    left, right, bias = inputs
    check(len(left.shape) == 2 and bias.dtype == left.dtype, "multiplies a matrix", inputs)
    product = matmul(node, inputs[:2])
    check(bias.shape == (right.shape[1],), "has a bias for each column", inputs)
    return product


def quantize(node: Node, inputs: Inputs) -> Outcome:
    """Infer QuantizeLinear to bytes."""
    value, _, zero = inputs
    check(value.dtype == FLOAT and zero.dtype in BYTES, "makes bytes of floats", inputs)
    _check_levels(node, inputs)
    return one(zero.dtype, value.shape)


def dequantize(node: Node, inputs: Inputs) -> Outcome:
    """Infer DequantizeLinear of bytes, or of biases."""
    value, _, zero = inputs
    is_fit = value.dtype == zero.dtype and value.dtype in (*BYTES, INT32)
    check(is_fit, "makes floats of bytes", inputs)
    _check_levels(node, inputs)
    return one(FLOAT, value.shape)


def constant(node: Node, inputs: Inputs) -> Outcome:
    """Infer Constant of floats."""
    tensor = node.attributes["value"]
    assert isinstance(tensor, Tensor)
    check(tensor.dtype == FLOAT, "holds floats", inputs)
    return Outcome((Value(tensor.dtype, tensor.shape, True, tensor.values),), 0)


def warp(node: Node, inputs: Inputs) -> Outcome:
    """Infer ``dff::DffWarp`` of features (1, h, w, C), flow (1, h, w, 2) and scale field."""
    features, flow, scale = inputs
    is_fit = features.shape == scale.shape and features.dtype == scale.dtype
    is_fit = is_fit and features.dtype in (*FLOATS, INT8) and flow.dtype == FLOAT
    is_fit = is_fit and len(features.shape) == 4 and flow.shape == (*features.shape[:3], 2)
    check(is_fit, "reads features, flow and scale field", inputs)
    return Outcome((Value(features.dtype, features.shape),), 16 * prod(features.shape))


def _broadcast(inputs: Inputs) -> Shape:
    """Return the broadcast shape of several tensors, by numpy's rule."""
    rank = max(len(value.shape) for value in inputs)
    shape = []
    for sizes in zip(*((1,) * (rank - len(v.shape)) + v.shape for v in inputs), strict=True):
        wide = set(sizes) - {1}
        check(len(wide) <= 1, "reads tensors of shapes that fit", inputs)
        shape.append(wide.pop() if wide else 1)
    return tuple(shape)


def _place_depth(value: Value, places: Value, inputs: Inputs) -> int:
    """Return how many axes an index addresses."""
    is_fit = places.dtype == INT64 and len(places.shape) > 0 and not value.is_most
    check(is_fit and 1 <= places.shape[-1] <= len(value.shape), "has places in its data", inputs)
    return places.shape[-1]


def _check_levels(node: Node, inputs: Inputs) -> None:
    """Check that steps and zeros are stored, and are single or one per channel."""
    value, step, zero = inputs
    steps = stored(step, "its steps", dtype=FLOAT)
    is_sane = bool((np.isfinite(steps) & (steps > 0)).all())
    check(is_sane, "has steps above 0", inputs)
    check(zero.values is not None and zero.shape == step.shape, "has stored zeros", inputs)
    if step.shape != ():
        axis = axis_of(node, value.shape, default=1)
        check(step.shape == (value.shape[axis],), "has a step for each of an axis", inputs)
