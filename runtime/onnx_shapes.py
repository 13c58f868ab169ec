"""What each operator of a bundle's graphs makes of shapes and types, and what that costs.

The graphs are static: every shape follows from the inputs' and from stored numbers. Only what
NonMaxSuppression chooses depends on the frame; there a shape says the most that there may be.

A rule is called with a node whose attributes were checked (``onnx_operators``) and gives its
outputs; where the inputs do not fit, it raises ``WireError`` with the rest of the sentence "has the
Conv node 'x', ...".

Source: operator sets 17 to 19 of ONNX, https://onnx.ai/onnx/operators.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dff_edge.runtime.onnx_file import Node, Tensor
from dff_edge.runtime.wire import WireError

Shape = tuple[int, ...]

FLOAT, HALF = np.dtype(np.float32), np.dtype(np.float16)
INT8, UINT8 = np.dtype(np.int8), np.dtype(np.uint8)
INT32, INT64, BOOL = np.dtype(np.int32), np.dtype(np.int64), np.dtype(np.bool_)
FLOATS, BYTES = (FLOAT, HALF), (UINT8, INT8)
CAST_TYPES: dict[int, np.dtype[Any]] = {1: FLOAT, 6: INT32, 10: HALF}

_MAX_RANK = 6
MAX_PAIRS = 1 << 29  # seconds; 6,000 candidates and 300 proposals have 2 million


class Value(NamedTuple):
    """A tensor that a node reads or gives.

    Attributes:
        dtype, shape: of it.
        is_stored: whether it is a constant of the graph.
        values: its numbers; None where it is computed, or they were passed over.
    """

    dtype: np.dtype[Any]
    shape: Shape
    is_stored: bool = False
    values: NDArray[Any] | None = None

    @property
    def bytes(self) -> int:
        """How much memory it takes."""
        return prod(self.shape) * self.dtype.itemsize


class Outcome(NamedTuple):
    """What a node gives.

    Attributes:
        outputs: in order.
        work: additions, products, comparisons: how many steps it takes.
        scratch_bytes: the most memory that a kernel takes beside inputs and outputs.
    """

    outputs: tuple[Value, ...]
    work: int
    scratch_bytes: int = 0


Inputs = Sequence[Value]


def same(node: Node, inputs: Inputs) -> Outcome:
    """Give the first input's type and shape: what works number by number."""
    first = inputs[0]
    return _one(first.dtype, first.shape)


def float_map(node: Node, inputs: Inputs) -> Outcome:
    """Relu, Exp and their like."""
    _check(inputs[0].dtype in FLOATS, "reads floats", inputs)
    return same(node, inputs)


def clip(node: Node, inputs: Inputs) -> Outcome:
    """Clip with both limits stored."""
    _check(inputs[0].dtype in FLOATS, "reads floats", inputs)
    for limit in inputs[1:]:
        _check(limit.is_stored and limit.shape == (), "has stored limits", inputs)
        _check(limit.dtype == inputs[0].dtype, "has limits of its own type", inputs)
    return same(node, inputs)


def cast(node: Node, inputs: Inputs) -> Outcome:
    """Cast; floats become no integers, so that no computed number can be an index."""
    wanted: np.dtype[Any] = CAST_TYPES[int(_number(node, "to"))]
    is_safe = wanted != INT32 or inputs[0].dtype in (INT64, BOOL)
    _check(is_safe, "casts no floats to integers", inputs)
    return _one(wanted, inputs[0].shape)


def arithmetic(node: Node, inputs: Inputs) -> Outcome:
    """Add, Sub, Mul, Div, Max and Min of two."""
    first, second = inputs
    types = (*FLOATS, INT64, *(BYTES if node.operator in ("Max", "Min") else ()))
    _check(first.dtype == second.dtype and first.dtype in types, "reads two of a type", inputs)
    if node.operator == "Div" and first.dtype == INT64:
        # The smallest integer by -1 stops the process, as does a division by zero.
        divisor = _stored(second, "an integer divisor")
        _check(bool((divisor >= 1).all()), "divides integers by stored ones of 1 and more", inputs)
    return _one(first.dtype, _broadcast(inputs))


def compare(node: Node, inputs: Inputs) -> Outcome:
    """Greater and Less of floats."""
    first, second = inputs
    _check(first.dtype == second.dtype == FLOAT, "compares floats", inputs)
    return _one(BOOL, _broadcast(inputs))


def both(node: Node, inputs: Inputs) -> Outcome:
    """And."""
    _check(all(value.dtype == BOOL for value in inputs), "reads truths", inputs)
    return _one(BOOL, _broadcast(inputs))


def where(node: Node, inputs: Inputs) -> Outcome:
    """Where."""
    choice, first, second = inputs
    is_fit = choice.dtype == BOOL and first.dtype == second.dtype
    _check(is_fit, "chooses by a truth between two of a type", inputs)
    return _one(first.dtype, _broadcast(inputs))


def softmax(node: Node, inputs: Inputs) -> Outcome:
    """Softmax over one axis."""
    _check(inputs[0].dtype in FLOATS, "reads floats", inputs)
    _axis(node, inputs[0].shape, default=-1)
    return same(node, inputs)


def reduce_all(node: Node, inputs: Inputs) -> Outcome:
    """ReduceSum over all axes, which stay with size 1."""
    (value,) = inputs
    _check(value.dtype in (FLOAT, INT32), "adds floats or integers", inputs)
    return Outcome((Value(value.dtype, (1,) * len(value.shape)),), prod(value.shape))


def concat(node: Node, inputs: Inputs) -> Outcome:
    """Concat along an axis."""
    first = inputs[0]
    axis = _axis(node, first.shape)
    rest = [(*value.shape[:axis], *value.shape[axis + 1 :]) for value in inputs]
    is_fit = all(
        len(value.shape) == len(first.shape) and value.dtype == first.dtype and own == rest[0]
        for value, own in zip(inputs, rest, strict=True)
    )
    _check(is_fit, "joins tensors that differ along its axis alone", inputs)
    joined = sum(value.shape[axis] for value in inputs)
    return _one(first.dtype, (*first.shape[:axis], joined, *first.shape[axis + 1 :]))


def transpose(node: Node, inputs: Inputs) -> Outcome:
    """Transpose by a told order."""
    (value,) = inputs
    order = _numbers(node, "perm", ())
    _check(sorted(order) == list(range(len(value.shape))), "has an order of all axes", inputs)
    return _one(value.dtype, tuple(value.shape[axis] for axis in order))


def reshape(node: Node, inputs: Inputs) -> Outcome:
    """Reshape to a stored shape."""
    value = inputs[0]
    wanted = [int(size) for size in _stored(inputs[1], "a shape").ravel()]
    _check(len(wanted) <= _MAX_RANK, f"has at most {_MAX_RANK} axes", inputs)
    if not _number(node, "allowzero"):
        kept = (*value.shape, *[0] * len(wanted))
        wanted = [kept[at] if size == 0 else size for at, size in enumerate(wanted)]
    total, known = prod(value.shape), prod(size for size in wanted if size != -1)
    if wanted.count(-1) == 1 and known > 0:
        wanted[wanted.index(-1)] = total // known
    _check(min(wanted, default=0) >= 0 and prod(wanted) == total, "keeps all elements", inputs)
    return _one(value.dtype, tuple(wanted))


def take_slice(node: Node, inputs: Inputs) -> Outcome:
    """Slice with stored ends and steps of one."""
    value = inputs[0]
    starts, ends, axes = (
        [int(number) for number in _stored(own, "its ends").ravel()] for own in inputs[1:4]
    )
    is_plain = len(starts) == len(ends) == len(axes) == len(set(axes))
    _check(is_plain, "has a start and an end for each axis", inputs)
    if len(inputs) > 4:
        steps = _stored(inputs[4], "its steps").ravel()
        _check(len(steps) == len(axes) and bool((steps == 1).all()), "has steps of 1", inputs)
    shape = list(value.shape)
    for start, end, axis in zip(starts, ends, axes, strict=True):
        _check(0 <= axis < len(shape), "cuts axes that there are", inputs)
        start, end, _ = slice(start, end).indices(shape[axis])
        shape[axis] = max(0, end - start)
    return _one(value.dtype, tuple(shape))


def gather(node: Node, inputs: Inputs) -> Outcome:
    """Gather rows."""
    value, places = inputs
    _check(places.dtype == INT64 and len(value.shape) > 0, "takes rows by integers", inputs)
    return _one(value.dtype, (*places.shape, *value.shape[1:]))


def gather_places(node: Node, inputs: Inputs) -> Outcome:
    """GatherND."""
    value, places = inputs
    depth = _place_depth(value, places, inputs)
    return _one(value.dtype, (*places.shape[:-1], *value.shape[depth:]))


def scatter_places(node: Node, inputs: Inputs) -> Outcome:
    """ScatterND."""
    value, places, updates = inputs
    depth = _place_depth(value, places, inputs)
    is_fit = updates.shape == (*places.shape[:-1], *value.shape[depth:])
    _check(is_fit and updates.dtype == value.dtype, "has a value for each place", inputs)
    return Outcome((Value(value.dtype, value.shape),), prod(value.shape) + prod(updates.shape))


def top(node: Node, inputs: Inputs) -> Outcome:
    """TopK of a vector."""
    value = inputs[0]
    (count,) = _stored(inputs[1], "how many", shape=(1,))
    _check(value.dtype in FLOATS and len(value.shape) == 1, "reads a vector", inputs)
    _check(1 <= count <= value.shape[0], "takes no more than there are", inputs)
    shape = (int(count),)
    outputs = (Value(value.dtype, shape), Value(INT64, shape))
    return Outcome(outputs, 32 * value.shape[0], 16 * value.shape[0])  # sorting: log2 of 2^31


def suppress(node: Node, inputs: Inputs) -> Outcome:
    """NonMaxSuppression of one frame with stored limits; the shape is the most that may be left."""
    boxes, scores = inputs[:2]
    (most,) = _stored(inputs[2], "how many", shape=(1,))
    limits = [_stored(own, "its limits", (1,), FLOAT)[0] for own in inputs[3:]]
    _check(boxes.dtype == scores.dtype == FLOAT, "reads floats", inputs)
    count = scores.shape[-1] if scores.shape else 0
    is_fit = len(scores.shape) == 3 and boxes.shape == (1, count, 4) and scores.shape[0] == 1
    _check(is_fit and most >= 0, "reads boxes (1, n, 4) and scores (1, K, n)", inputs)
    _check(0 <= limits[0] <= 1 and bool(np.isfinite(limits[1])), "has sane limits", inputs)
    classes, most = scores.shape[1], min(int(most), count)
    pairs = classes * count * most
    _check(pairs <= MAX_PAIRS, f"compares at most {MAX_PAIRS} pairs of boxes", inputs)
    work = 16 * pairs + 32 * classes * count  # a comparison takes as long as 16 products
    return Outcome((Value(INT64, (classes * most, 3)),), work, 64 * classes * count)


def pool_regions(node: Node, inputs: Inputs) -> Outcome:
    """RoiAlign, each region's map being stored."""
    maps, regions, places = inputs
    is_fit = len(maps.shape) == 4 and maps.dtype == regions.dtype == FLOAT
    is_fit = is_fit and regions.shape == (*places.shape, 4) and len(places.shape) == 1
    _check(is_fit, "reads maps (n, C, h, w), regions (r, 4) and r numbers of maps", inputs)
    numbers = _stored(places, "the numbers of its maps")
    _check(
        bool(((numbers >= 0) & (numbers < maps.shape[0])).all()),
        "reads maps that there are",
        inputs,
    )
    side = (int(_number(node, "output_height", 1)), int(_number(node, "output_width", 1)))
    samples = prod(side) * int(_number(node, "sampling_ratio")) ** 2
    shape = (regions.shape[0], maps.shape[1], *side)
    work = regions.shape[0] * samples * (maps.shape[1] + 8) * 4
    return Outcome((Value(FLOAT, shape),), work, 64 * samples)


def matmul(node: Node, inputs: Inputs) -> Outcome:
    """MatMul of stacks of matrices."""
    left, right = inputs
    is_fit = left.dtype == right.dtype and left.dtype in FLOATS
    is_fit = is_fit and len(left.shape) >= 2 and len(right.shape) == 2
    _check(is_fit and left.shape[-1] == right.shape[0], "multiplies matrices that fit", inputs)
    shape = (*left.shape[:-1], right.shape[1])
    return Outcome((Value(left.dtype, shape),), prod(shape) * right.shape[0], right.bytes)


def gemm(node: Node, inputs: Inputs) -> Outcome:
    """Gemm without transposing, and a bias for each column."""
    left, right, bias = inputs
    _check(len(left.shape) == 2 and bias.dtype == left.dtype, "multiplies a matrix", inputs)
    product = matmul(node, inputs[:2])
    _check(bias.shape == (right.shape[1],), "has a bias for each column", inputs)
    return product


def convolve(node: Node, inputs: Inputs) -> Outcome:
    """Conv in two dimensions."""
    (strides, dilations, pads, group), (frame, kernel) = _window(node, inputs), inputs[:2]
    count, channels = kernel.shape[:2]
    is_fit = channels * group == frame.shape[1] and count % group == 0
    _check(is_fit, "has kernels that fit its channels", inputs)
    _check_bias(inputs, count)
    sides = _moved(frame.shape[2:], kernel.shape[2:], strides, dilations, pads, inputs)
    taps = prod(kernel.shape[1:])
    shape = (frame.shape[0], count, *sides)
    scratch = 0 if kernel.shape[2:] == (1, 1) else prod(sides) * taps * _pointer(frame)
    return Outcome((Value(frame.dtype, shape),), prod(shape) * taps, scratch)


def convolve_back(node: Node, inputs: Inputs) -> Outcome:
    """ConvTranspose in two dimensions."""
    (strides, dilations, pads, group), (frame, kernel) = _window(node, inputs), inputs[:2]
    _check(kernel.shape[0] == frame.shape[1] and frame.shape[1] % group == 0, "fits", inputs)
    count = kernel.shape[1] * group
    _check_bias(inputs, count)
    extra = _numbers(node, "output_padding", (0, 0))
    sides = tuple(
        stride * (side - 1) + dilation * (size - 1) + 1 + more - before - behind
        for side, size, stride, dilation, more, before, behind in zip(
            frame.shape[2:],
            kernel.shape[2:],
            strides,
            dilations,
            extra,
            pads,
            pads[2:],
            strict=False,
        )
    )
    _check(min(sides) >= 1, "gives something", inputs)
    shape = (frame.shape[0], count, *sides)
    work = prod(frame.shape) * prod(kernel.shape[1:])
    scratch = prod(frame.shape[2:]) * prod(kernel.shape[1:]) * frame.dtype.itemsize
    return Outcome((Value(frame.dtype, shape),), work + prod(shape), scratch)


def pool(node: Node, inputs: Inputs) -> Outcome:
    """MaxPool and AveragePool in two dimensions."""
    (value,) = inputs
    types = FLOATS if node.operator == "AveragePool" else (*FLOATS, *BYTES)
    _check(value.dtype in types and len(value.shape) == 4, "reads planes", inputs)
    kernel = _numbers(node, "kernel_shape", ())
    strides = _numbers(node, "strides", (1, 1))
    pads = _numbers(node, "pads", (0, 0, 0, 0))
    is_fit = len(kernel) == len(strides) == 2 and len(pads) == 4
    _check(is_fit and max(pads) < min(kernel), "has a window in two dimensions", inputs)
    sides = _moved(value.shape[2:], kernel, strides, (1, 1), pads, inputs)
    shape = (*value.shape[:2], *sides)
    return Outcome((Value(value.dtype, shape),), prod(shape) * prod(kernel))


def sample_grid(node: Node, inputs: Inputs) -> Outcome:
    """GridSample of planes."""
    planes, grid = inputs
    is_fit = planes.dtype == grid.dtype == FLOAT and len(planes.shape) == len(grid.shape) == 4
    is_fit = is_fit and grid.shape[3] == 2 and grid.shape[0] == planes.shape[0]
    _check(is_fit, "reads planes (n, C, h, w) and a grid (n, h, w, 2)", inputs)
    shape = (*planes.shape[:2], *grid.shape[1:3])
    return Outcome((Value(FLOAT, shape),), 16 * prod(shape))


def quantize(node: Node, inputs: Inputs) -> Outcome:
    """QuantizeLinear to bytes."""
    value, _, zero = inputs
    _check(value.dtype == FLOAT and zero.dtype in BYTES, "makes bytes of floats", inputs)
    _check_levels(node, inputs)
    return _one(zero.dtype, value.shape)


def dequantize(node: Node, inputs: Inputs) -> Outcome:
    """DequantizeLinear of bytes, or of biases."""
    value, _, zero = inputs
    is_fit = value.dtype == zero.dtype and value.dtype in (*BYTES, INT32)
    _check(is_fit, "makes floats of bytes", inputs)
    _check_levels(node, inputs)
    return _one(FLOAT, value.shape)


def constant(node: Node, inputs: Inputs) -> Outcome:
    """Constant of floats."""
    tensor = node.attributes["value"]
    assert isinstance(tensor, Tensor)
    _check(tensor.dtype == FLOAT, "holds floats", inputs)
    return Outcome((Value(tensor.dtype, tensor.shape, True, tensor.values),), 0)


def warp(node: Node, inputs: Inputs) -> Outcome:
    """``dff::DffWarp``, the plugin's node: features (1, h, w, C), flow (1, h, w, 2), scale."""
    features, flow, scale = inputs
    is_fit = features.shape == scale.shape and features.dtype == scale.dtype
    is_fit = is_fit and features.dtype in (*FLOATS, INT8) and flow.dtype == FLOAT
    is_fit = is_fit and len(features.shape) == 4 and flow.shape == (*features.shape[:3], 2)
    _check(is_fit, "reads features, flow and scale field", inputs)
    return Outcome((Value(features.dtype, features.shape),), 16 * prod(features.shape))


def _one(dtype: np.dtype[Any], shape: Shape) -> Outcome:
    return Outcome((Value(dtype, shape),), prod(shape))


def _check(is_fit: bool, expected: str, inputs: Inputs) -> None:
    if not is_fit:
        told = ", ".join(f"{value.dtype.name} {list(value.shape)}" for value in inputs)
        raise WireError(f"which {expected}, with the inputs {told or 'of none'}")


def _stored(
    value: Value, what: str, shape: Shape | None = None, dtype: np.dtype[Any] = INT64
) -> NDArray[Any]:
    """The numbers of a stored input."""
    has_shape = shape is None or value.shape == shape
    if value.values is None or not has_shape or value.dtype != dtype:
        raise WireError(f"which has {what} stored, {dtype.name} {shape or value.shape}")
    return value.values


def _number(node: Node, name: str, default: float = 0) -> float:
    number = node.attributes.get(name, default)
    assert isinstance(number, (int, float))
    return number


def _numbers(node: Node, name: str, default: Shape) -> Shape:
    numbers = node.attributes.get(name, default)
    assert isinstance(numbers, tuple)
    return numbers


def _axis(node: Node, shape: Shape, default: int = 0) -> int:
    axis = int(_number(node, "axis", default))
    if not -len(shape) <= axis < len(shape):
        raise WireError(f"which has the axis {axis}, of a tensor of {len(shape)}")
    return axis % len(shape)


def _broadcast(inputs: Inputs) -> Shape:
    """The shape of several tensors together, numpy's rule."""
    rank = max(len(value.shape) for value in inputs)
    shape = []
    for sizes in zip(*((1,) * (rank - len(v.shape)) + v.shape for v in inputs), strict=True):
        wide = set(sizes) - {1}
        _check(len(wide) <= 1, "reads tensors of shapes that fit", inputs)
        shape.append(wide.pop() if wide else 1)
    return tuple(shape)


def _place_depth(value: Value, places: Value, inputs: Inputs) -> int:
    """How many axes a place names."""
    is_fit = places.dtype == INT64 and len(places.shape) > 0
    _check(is_fit and 1 <= places.shape[-1] <= len(value.shape), "has places in its data", inputs)
    return places.shape[-1]


def _window(node: Node, inputs: Inputs) -> tuple[Shape, Shape, Shape, int]:
    """Strides, dilations, pads and groups of a convolution."""
    frame, kernel = inputs[:2]
    is_fit = len(frame.shape) == len(kernel.shape) == 4 and frame.dtype == kernel.dtype
    is_fit = is_fit and frame.dtype in FLOATS and min(kernel.shape) >= 1
    _check(is_fit, "reads planes and kernels of floats", inputs)
    strides = _numbers(node, "strides", (1, 1))
    dilations = _numbers(node, "dilations", (1, 1))
    pads = _numbers(node, "pads", (0, 0, 0, 0))
    told = _numbers(node, "kernel_shape", kernel.shape[2:])
    is_flat = len(strides) == len(dilations) == 2 and len(pads) == 4
    _check(is_flat and told == kernel.shape[2:], "has a window in two dimensions", inputs)
    return strides, dilations, pads, int(_number(node, "group", 1))


def _moved(
    sides: Shape, kernel: Shape, strides: Shape, dilations: Shape, pads: Shape, inputs: Inputs
) -> Shape:
    """How often a window fits, in both dimensions."""
    found = tuple(
        (sides[at] + pads[at] + pads[at + 2] - dilations[at] * (kernel[at] - 1) - 1) // strides[at]
        + 1
        for at in range(2)
    )
    _check(min(found) >= 1, "has a window that fits in what it reads", inputs)
    return found


def _check_bias(inputs: Inputs, count: int) -> None:
    for bias in inputs[2:]:
        is_fit = bias.shape == (count,) and bias.dtype == inputs[0].dtype
        _check(is_fit, "has a bias for each kernel", inputs)


def _pointer(frame: Value) -> int:
    """Bytes that a kernel may keep for each value under its window: it, or where it is."""
    return max(frame.dtype.itemsize, 8)


def _check_levels(node: Node, inputs: Inputs) -> None:
    """Steps and zeros are stored, and there are one or as many as the axis is long."""
    value, step, zero = inputs
    steps = _stored(step, "its steps", dtype=FLOAT)
    is_sane = bool((np.isfinite(steps) & (steps > 0)).all())
    _check(is_sane, "has steps above 0", inputs)
    _check(zero.values is not None and zero.shape == step.shape, "has stored zeros", inputs)
    if step.shape != ():
        axis = _axis(node, value.shape, default=1)
        _check(step.shape == (value.shape[axis],), "has a step for each of an axis", inputs)
