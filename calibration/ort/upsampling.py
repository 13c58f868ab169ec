"""Rewrite ConvTranspose as a convolution and a shuffle, which INT8 has kernels for.

A transposed convolution of kernel 4, stride 2 and padding 1, as in all flow networks,
computes row ``2j - 1 + b`` of its output from the rows ``j - 1`` and ``j`` of its input:

    out[2j - 1 + b] = in[j - 1] * kernel[2 + b] + in[j] * kernel[b]        b = 0, 1

So a 2x2 convolution with four times the kernels, over the input padded by one, computes
each output exactly once, with the products of the transposed one. Depth-to-space shuffling
moves them to their places; the outermost rows and columns (``2j - 1 + b`` = -1 and 2h)
are cropped. The shuffle is written for channels-last maps, the layout of ONNX Runtime's
integer convolutions, as moves of whole pixels.

A transposed convolution of kernel 2, stride 2 and no padding, as in the neck "pyramid", is a 1x1
convolution with four times the kernels and the same shuffle, without cropping.

Source: Shi et al., "Real-Time Single Image and Video Super-Resolution Using an Efficient
    Sub-Pixel Convolutional Neural Network", CVPR 2016, https://arxiv.org/abs/1609.05158
    (sub-pixel convolution); Dumoulin and Visin, "A guide to convolution arithmetic for deep
    learning", https://arxiv.org/abs/1603.07285, section 4 (transposed convolution).
"""

from __future__ import annotations

from itertools import product

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from dff_edge.onnx_graphs.rewriting import Rewriter

_ACTIVATIONS = ("Relu", "LeakyRelu")
_DEFAULTS = {
    "strides": [1, 1],
    "pads": [0, 0, 0, 0],
    "output_padding": [0, 0],
    "dilations": [1, 1],
    "group": 1,
    "auto_pad": b"NOTSET",
}
_PADDING = {4: 1, 2: 0}  # by the size of the kernel
_EXPECTED = [
    {**_DEFAULTS, "strides": [2, 2], "pads": [padding] * 4, "kernel_shape": [size, size]}
    for size, padding in _PADDING.items()
]


def rewrite_upsampling(model: onnx.ModelProto) -> onnx.ModelProto:
    """Replace ConvTranspose of stride 2 and kernel 4 (padding 1) or 2 (none); others stay.

    Args:
        model: of static shapes, without subgraphs. Not changed.

    Returns:
        A model that computes the same: each output is a sum of the same products.
    """
    rewriter = Rewriter(model)
    for node in rewriter.nodes("ConvTranspose"):
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        kernel_shape = list(rewriter.shape(node.input[1])[2:])
        is_expected = {**_DEFAULTS, "kernel_shape": kernel_shape, **attributes} in _EXPECTED
        if is_expected and rewriter.shape(node.input[0])[0] == 1:
            _rewrite(rewriter, node)
    return rewriter.finish()


def _rewrite(rewriter: Rewriter, node: onnx.NodeProto) -> None:
    _, _, height, width = rewriter.shape(node.input[0])
    kernel = rewriter.values(node.input[1])  # (C_in, C_out, k, k)
    count, padding, prefix = kernel.shape[1], _PADDING[kernel.shape[2]], node.name
    phases = _as_convolution(kernel)
    inputs = [node.input[0], rewriter.constant(f"{prefix}/kernel", phases)]
    if len(node.input) > 2:
        bias = np.tile(rewriter.values(node.input[2]), 4)
        inputs.append(rewriter.constant(f"{prefix}/bias", bias))
    shape = list(phases.shape[2:])
    last = rewriter.add("Conv", inputs, f"{prefix}/conv", kernel_shape=shape, pads=[padding] * 4)
    output, old = node.output[0], [node]
    # An activation commutes with the shuffle, and INT8 needs it right behind the convolution.
    activation = next(iter(rewriter.users(output)), None)
    if (
        activation is not None
        and activation.op_type in _ACTIVATIONS
        and rewriter.is_read_by(output, activation)
    ):
        attributes = {a.name: helper.get_attribute_value(a) for a in activation.attribute}
        last = rewriter.add(activation.op_type, [last], f"{prefix}/activation", **attributes)
        output, old = activation.output[0], [node, activation]
    rewriter.remove(*old)
    for step, (operator, *arguments) in enumerate(_shuffle(height, width, count, padding)):
        name = f"{prefix}/shuffle_{step}"
        if operator == "Transpose":
            last = rewriter.add("Transpose", [last], name, perm=arguments[0])
        else:
            constants = [
                rewriter.constant(f"{name}/{i}", np.array(value, np.int64))
                for i, value in enumerate(arguments)
            ]
            last = rewriter.add(operator, [last, *constants], name)
    rewriter.rename(last, output)


def _as_convolution(kernel: NDArray[np.float32]) -> NDArray[np.float32]:
    """Reshape a kernel (C_in, C_out, k, k) to (4 C_out, C_in, k/2, k/2); b of rows is outermost."""
    kernels_in, kernels_out, size, _ = kernel.shape
    taps = size // 2
    phases = np.empty((2, 2, kernels_out, kernels_in, taps, taps), np.float32)
    for row, column, y, x in product(range(2), range(2), range(taps), range(taps)):
        tap = kernel[:, :, 2 * (taps - 1 - y) + row, 2 * (taps - 1 - x) + column]
        phases[row, column, :, :, y, x] = tap.T
    return phases.reshape(4 * kernels_out, kernels_in, taps, taps)


def _shuffle(  # type: ignore[type-arg]
    height: int, width: int, count: int, padding: int
) -> list[tuple]:
    """Return the steps from (1, 4 count, h + padding, w + padding) to (1, count, 2h, 2w)."""
    rows, columns = height + padding, width + padding
    steps: list[tuple] = [  # type: ignore[type-arg]
        ("Transpose", [0, 2, 3, 1]),
        ("Reshape", [rows, columns, 2, 2 * count]),
        ("Transpose", [0, 2, 1, 3]),
        ("Reshape", [1, 2 * rows, 2 * columns, count]),
    ]
    if padding:  # starts, ends and axes
        steps.append(("Slice", [1, 1], [2 * height + 1, 2 * width + 1], [1, 2]))
    return [*steps, ("Transpose", [0, 3, 1, 2])]
