"""Shape rules of operators that move a window over maps: convolution, pooling, sampling."""

from __future__ import annotations

from math import prod

from dff_edge.bundle.graphs.onnx_file import Node
from dff_edge.bundle.graphs.onnx_values import (
    BYTES,
    FLOAT,
    FLOATS,
    Inputs,
    Outcome,
    Shape,
    Value,
    check,
    number,
    numbers,
    stored,
)


def pool_regions(node: Node, inputs: Inputs) -> Outcome:
    """Infer RoiAlign, each region's map being stored."""
    maps, regions, places = inputs
    is_fit = len(maps.shape) == 4 and maps.dtype == regions.dtype == FLOAT
    is_fit = is_fit and regions.shape == (*places.shape, 4) and len(places.shape) == 1
    check(is_fit, "reads maps (n, C, h, w), regions (r, 4) and r numbers of maps", inputs)
    read = stored(places, "the numbers of its maps")
    are_there = bool(((read >= 0) & (read < maps.shape[0])).all())
    check(are_there, "reads maps that there are", inputs)
    side = (int(number(node, "output_height", 1)), int(number(node, "output_width", 1)))
    samples = prod(side) * int(number(node, "sampling_ratio")) ** 2
    shape = (regions.shape[0], maps.shape[1], *side)
    work = regions.shape[0] * samples * (maps.shape[1] + 8) * 4
    return Outcome((Value(FLOAT, shape),), work, 64 * samples)


def convolve(node: Node, inputs: Inputs) -> Outcome:
    """Infer Conv in two dimensions."""
    (strides, dilations, pads, group), (frame, kernel) = _window(node, inputs), inputs[:2]
    count, channels = kernel.shape[:2]
    is_fit = channels * group == frame.shape[1] and count % group == 0
    check(is_fit, "has kernels that fit its channels", inputs)
    _check_bias(inputs, count)
    sides = _moved(frame.shape[2:], kernel.shape[2:], strides, dilations, pads, inputs)
    taps = prod(kernel.shape[1:])
    shape = (frame.shape[0], count, *sides)
    scratch = 0 if kernel.shape[2:] == (1, 1) else prod(sides) * taps * _pointer(frame)
    return Outcome((Value(frame.dtype, shape),), prod(shape) * taps, scratch)


def convolve_back(node: Node, inputs: Inputs) -> Outcome:
    """Infer ConvTranspose in two dimensions."""
    (strides, dilations, pads, group), (frame, kernel) = _window(node, inputs), inputs[:2]
    is_fit = kernel.shape[0] == frame.shape[1] and frame.shape[1] % group == 0
    check(is_fit, "has kernels that fit its channels", inputs)
    count = kernel.shape[1] * group
    _check_bias(inputs, count)
    extra = numbers(node, "output_padding", (0, 0))
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
    check(min(sides) >= 1, "gives something", inputs)
    shape = (frame.shape[0], count, *sides)
    work = prod(frame.shape) * prod(kernel.shape[1:])
    scratch = prod(frame.shape[2:]) * prod(kernel.shape[1:]) * frame.dtype.itemsize
    return Outcome((Value(frame.dtype, shape),), work + prod(shape), scratch)


def pool(node: Node, inputs: Inputs) -> Outcome:
    """Infer MaxPool and AveragePool in two dimensions."""
    (value,) = inputs
    types = FLOATS if node.operator == "AveragePool" else (*FLOATS, *BYTES)
    check(value.dtype in types and len(value.shape) == 4, "reads planes", inputs)
    kernel = numbers(node, "kernel_shape", ())
    strides = numbers(node, "strides", (1, 1))
    pads = numbers(node, "pads", (0, 0, 0, 0))
    is_fit = len(kernel) == len(strides) == 2 and len(pads) == 4
    check(is_fit and max(pads) < min(kernel), "has a window in two dimensions", inputs)
    sides = _moved(value.shape[2:], kernel, strides, (1, 1), pads, inputs)
    shape = (*value.shape[:2], *sides)
    return Outcome((Value(value.dtype, shape),), prod(shape) * prod(kernel))


def sample_grid(node: Node, inputs: Inputs) -> Outcome:
    """Infer GridSample of planes."""
    planes, grid = inputs
    is_fit = planes.dtype == grid.dtype == FLOAT and len(planes.shape) == len(grid.shape) == 4
    is_fit = is_fit and grid.shape[3] == 2 and grid.shape[0] == planes.shape[0]
    check(is_fit, "reads planes (n, C, h, w) and a grid (n, h, w, 2)", inputs)
    shape = (*planes.shape[:2], *grid.shape[1:3])
    return Outcome((Value(FLOAT, shape),), 16 * prod(shape))


def _window(node: Node, inputs: Inputs) -> tuple[Shape, Shape, Shape, int]:
    """Return strides, dilations, pads and groups of a convolution."""
    frame, kernel = inputs[:2]
    is_fit = len(frame.shape) == len(kernel.shape) == 4 and frame.dtype == kernel.dtype
    is_fit = is_fit and frame.dtype in FLOATS and min(kernel.shape) >= 1
    check(is_fit, "reads planes and kernels of floats", inputs)
    strides = numbers(node, "strides", (1, 1))
    dilations = numbers(node, "dilations", (1, 1))
    pads = numbers(node, "pads", (0, 0, 0, 0))
    told = numbers(node, "kernel_shape", kernel.shape[2:])
    is_flat = len(strides) == len(dilations) == 2 and len(pads) == 4
    check(is_flat and told == kernel.shape[2:], "has a window in two dimensions", inputs)
    return strides, dilations, pads, int(number(node, "group", 1))


def _moved(
    sides: Shape, kernel: Shape, strides: Shape, dilations: Shape, pads: Shape, inputs: Inputs
) -> Shape:
    """Return how often a window fits, in both dimensions."""
    found = tuple(
        (sides[at] + pads[at] + pads[at + 2] - dilations[at] * (kernel[at] - 1) - 1) // strides[at]
        + 1
        for at in range(2)
    )
    check(min(found) >= 1, "has a window that fits in what it reads", inputs)
    return found


def _check_bias(inputs: Inputs, count: int) -> None:
    for bias in inputs[2:]:
        is_fit = bias.shape == (count,) and bias.dtype == inputs[0].dtype
        check(is_fit, "has a bias for each kernel", inputs)


def _pointer(frame: Value) -> int:
    """Return the bytes that a kernel may keep for each value under its window."""
    return max(frame.dtype.itemsize, 8)
