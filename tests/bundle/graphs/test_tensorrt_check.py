"""Graphs that TensorRT would misread are refused by the name of the node."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from dff_edge.bundle.graphs.onnx_check import CheckedGraph
from dff_edge.bundle.graphs.tensorrt_check import check_for_tensorrt
from dff_edge.errors import BundleError
from tests.bundle.bundles import make_model
from tests.bundle.graphs.onnx_graphs import check, model_of, node


def pair(zero: object) -> onnx.ModelProto:
    """Q and DQ with stored levels."""
    zero = np.asarray(zero)
    step = np.full(zero.shape, 0.5, np.float32)
    return model_of(
        node("QuantizeLinear", ["x", "step", "zero"], ["q"], axis=0),
        node("DequantizeLinear", ["q", "step", "zero"], ["y"], axis=0),
        inputs={"x": (TensorProto.FLOAT, (3, 4))},
        outputs={"y": (TensorProto.FLOAT, (3, 4))},
        stored={"step": step, "zero": zero},
    )


def checked(model: onnx.ModelProto) -> CheckedGraph:
    return check(model, flavour="trt", plugin=True)


@pytest.mark.parametrize("zero", [np.int8(0), np.zeros(3, np.int8)], ids=["one", "each"])
def test_int8_around_zero_passes(zero):
    check_for_tensorrt(checked(pair(zero)), "graph.onnx")


@pytest.mark.parametrize("subnet", ["feature", "flow", "task"])
def test_float_graphs_pass(subnet):
    check_for_tensorrt(check(make_model(subnet)), subnet)


@pytest.mark.parametrize(
    "zero", [np.uint8(0), np.uint8(128), np.int8(3), np.array([0, 0, 1], np.int8)], ids=str
)
def test_other_zero_points_are_refused(zero):
    expected = r"graph.onnx has the QuantizeLinear node 'the_QuantizeLinear' that is not symmetric"
    with pytest.raises(BundleError, match=f"{expected} int8.*--flavour trt"):
        check_for_tensorrt(checked(pair(zero)), "graph.onnx")


def test_dequantisation_is_checked_as_well():
    weight = np.full((1, 4), 200, np.uint8)
    model = model_of(
        node("DequantizeLinear", ["w", "step", "zero"], ["f"]),
        node("Add", ["x", "f"]),
        stored={"w": weight, "step": np.float32(1), "zero": np.uint8(0)},
    )

    with pytest.raises(BundleError, match="node 'the_DequantizeLinear' that is not symmetric int8"):
        check_for_tensorrt(checked(model), "graph.onnx")


def test_biases_are_left_to_onnxruntime():
    """Of int32 with int32 zeros: what it writes for its own kernels."""
    model = model_of(
        node("DequantizeLinear", ["b", "step", "zero"], ["f"]),
        node("Add", ["x", "f"]),
        stored={"b": np.zeros(4, np.int32), "step": np.float32(1), "zero": np.int32(0)},
    )

    with pytest.raises(BundleError, match="'the_DequantizeLinear' that is not symmetric int8"):
        check_for_tensorrt(checked(model), "graph.onnx")


def test_a_zero_point_that_is_left_out_or_computed_never_gets_so_far():
    """Without one, Q gives uint8."""
    model = pair(np.int8(0))
    del model.graph.node[0].input[2]
    with pytest.raises(BundleError, match="QuantizeLinear node .* with 2 inputs"):
        checked(model)
    model = pair(np.int8(0))
    model.graph.initializer.append(numpy_helper.from_array(np.int8(0), "other"))
    model.graph.node.insert(0, node("Identity", ["other"], ["zero"]))
    del model.graph.initializer[1]
    with pytest.raises(BundleError, match="QuantizeLinear node .* has stored zeros"):
        checked(model)
