"""Small ONNX graphs of a few nodes, for tests that look at single rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from dff_edge.bundle.graphs.onnx_check import CheckedGraph, check_onnx
from tests.bundle.bundles import IR_VERSION, OPSET

NAME = "feature.onnx"


def model_of(
    *nodes: onnx.NodeProto,
    inputs: Mapping[str, tuple[int, Sequence[int]]] | None = None,
    outputs: Mapping[str, tuple[int, Sequence[int]]] | None = None,
    stored: Mapping[str, Any] | None = None,
    functions: Sequence[onnx.FunctionProto] = (),
) -> onnx.ModelProto:
    """Return a model of some nodes; by default of x to y, float32 (1, 4)."""
    default = (TensorProto.FLOAT, (1, 4))
    inputs = {"x": default} if inputs is None else inputs
    outputs = {"y": default} if outputs is None else outputs
    graph = helper.make_graph(
        list(nodes),
        "tiny",
        [helper.make_tensor_value_info(name, *kind) for name, kind in inputs.items()],
        [helper.make_tensor_value_info(name, *kind) for name, kind in outputs.items()],
        [numpy_helper.from_array(np.asarray(v), name) for name, v in (stored or {}).items()],
    )
    imports = [helper.make_opsetid("", OPSET)]
    if functions:
        imports.append(helper.make_opsetid("dff", 1))
    return helper.make_model(
        graph, functions=list(functions), opset_imports=imports, ir_version=IR_VERSION
    )


def check(model: onnx.ModelProto, **how: Any) -> CheckedGraph:
    """Check a model's bytes."""
    return check_onnx(model.SerializeToString(), NAME, **how)


def node(operator: str, inputs: Sequence[str], outputs: Sequence[str] = ("y",), **attributes: Any):
    """Return a node called as its operator."""
    return helper.make_node(operator, inputs, outputs, f"the_{operator}", **attributes)


def with_external_data(tensor: onnx.TensorProto) -> None:
    """Move a tensor's data to another file, as onnx would."""
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")
