"""A convolution of the largest bytes with the largest weights, whose result is known by hand."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

CHANNELS = 16


def largest_sums(
    kind: Literal["dense", "depthwise"], bits: Literal[7, 8]
) -> tuple[NDArray[np.uint8], bytes, int]:
    """Return bytes of 255, a graph that sums their products with 127 or 64, and what each sum is.

    Two products are more than 16 bits hold if the weights have 8, which is where x86 without VNNI
    adds. The step of the result makes it 200.
    """
    largest = {7: 64, 8: 127}[bits]
    kernel, groups = {"dense": (1, 1), "depthwise": (3, CHANNELS)}[kind]
    weights = np.full((CHANNELS, CHANNELS // groups, kernel, kernel), largest, np.int8)
    summed = weights[0].size
    constants = {
        "one": np.float32(1),
        "zero": np.uint8(0),
        "weights": weights,
        "steps": np.ones(CHANNELS, np.float32),
        "zeros": np.zeros(CHANNELS, np.int8),
        "step": np.float32(summed * largest * 255 / 200),
    }
    nodes = [
        helper.make_node("DequantizeLinear", ["bytes", "one", "zero"], ["x"]),
        helper.make_node("DequantizeLinear", ["weights", "steps", "zeros"], ["w"], axis=0),
        helper.make_node("Conv", ["x", "w"], ["y"], group=groups),
        helper.make_node("QuantizeLinear", ["y", "step", "zero"], ["result"]),
    ]
    size, inside = 8 + kernel - 1, 8
    graph = helper.make_graph(
        nodes,
        "convolution",
        [helper.make_tensor_value_info("bytes", TensorProto.UINT8, [1, CHANNELS, size, size])],
        [helper.make_tensor_value_info("result", TensorProto.UINT8, [1, CHANNELS, inside, inside])],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    given = np.full((1, CHANNELS, size, size), 255, np.uint8)
    return given, bytes(model.SerializeToString()), 200
