"""Small graphs by hand, and what they compute."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

from tests.calibration.ort.test_int8 import outputs_of

OPSET = 17


def model_of(nodes, inputs, outputs, tensors=()):
    """A checked model.

    Args:
        nodes: in order.
        inputs, outputs: (dtype, shape) by name.
        tensors: stored arrays by name.
    """

    def value(name, dtype, shape):
        return helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape
        )

    graph = helper.make_graph(
        nodes,
        "small",
        [value(name, *about) for name, about in inputs.items()],
        [value(name, *about) for name, about in outputs.items()],
        [numpy_helper.from_array(array, name) for name, array in dict(tensors).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def operators(model):
    """Operator of each node, in order."""
    return [node.op_type for node in model.graph.node]


def compute(model, **inputs):
    """Outputs by name."""
    return outputs_of(model.SerializeToString(), inputs)
