"""What TensorRT would misread is refused by the name of the node."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from dff_edge.runtime.errors import BundleError
from dff_edge.runtime.onnx_check import check_onnx
from dff_edge.runtime.tensorrt_check import check_for_tensorrt
from tests.runtime.bundles import IR_VERSION, OPSET, make_graphs


def graph_of(*nodes, tensors=(), functions=()):
    """A graph x -> y with the given nodes; not all of these would run."""
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 4]) for n in ("x", "y")]
    graph = helper.make_graph(list(nodes), "tiny", values[:1], values[1:], list(tensors))
    model = helper.make_model(
        graph,
        functions=list(functions),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    data = model.SerializeToString()
    check_onnx(data, "graph.onnx", plugins=["DffWarp"])  # fit for a bundle but for TensorRT
    return data


def pair(zero, *, zeros=None):
    """Q and DQ with stored levels; ``zeros`` are the inputs behind the step."""
    names = ["zero"] if zeros is None else zeros
    return graph_of(
        helper.make_node("QuantizeLinear", ["x", "step", *names], ["q"], "to_bytes"),
        helper.make_node("DequantizeLinear", ["q", "step", "zero"], ["y"], "to_floats"),
        tensors=[
            numpy_helper.from_array(np.float32(0.5), "step"),
            numpy_helper.from_array(np.asarray(zero), "zero"),
        ],
    )


@pytest.mark.parametrize("zero", [np.int8(0), np.zeros(3, np.int8)])
def test_int8_around_zero_passes(zero):
    check_for_tensorrt(pair(zero), "graph.onnx")


@pytest.mark.parametrize("subnet", ["feature", "flow", "task"])
def test_float_graphs_pass(subnet):
    check_for_tensorrt(make_graphs()[subnet], subnet)


@pytest.mark.parametrize(
    "zero",
    [np.uint8(0), np.uint8(128), np.int8(3), np.int32(0), np.array([0, 0, 1], np.int8)],
    ids=str,
)
def test_other_zero_points_are_refused(zero):
    expected = r"graph.onnx has the QuantizeLinear node 'to_bytes' that is not symmetric int8.*--fl"
    with pytest.raises(BundleError, match=expected):
        check_for_tensorrt(pair(zero), "graph.onnx")


@pytest.mark.parametrize("zeros", [[], [""], ["x"]], ids=["none", "empty", "computed"])
def test_a_zero_point_that_is_not_stored_is_refused(zeros):
    """Without one, Q gives uint8."""
    with pytest.raises(BundleError, match="'to_bytes' that is not symmetric int8"):
        check_for_tensorrt(pair(np.int8(0), zeros=zeros), "graph.onnx")


def test_a_tensor_without_a_name_is_no_zero_point():
    """An input without a name is absent, whatever is stored under none."""
    model = onnx.load_from_string(pair(np.int8(0), zeros=[""]))
    model.graph.initializer.append(numpy_helper.from_array(np.int8(0), ""))
    model.graph.initializer[-1].name = ""  # present and empty

    with pytest.raises(BundleError, match="'to_bytes' that is not symmetric int8"):
        check_for_tensorrt(model.SerializeToString(), "graph.onnx")


def test_a_zero_point_that_is_stored_twice_is_refused():
    model = onnx.load_from_string(pair(np.uint8(0)))
    model.graph.initializer.append(numpy_helper.from_array(np.int8(0), "zero"))

    with pytest.raises(BundleError, match="stores two tensors of the name 'zero'"):
        check_for_tensorrt(model.SerializeToString(), "graph.onnx")


@pytest.mark.parametrize("taken", ["zero", "x", "q"], ids=["stored", "input", "made"])
def test_a_name_that_stands_for_two_values_is_refused(taken):
    """Which of them a zero point is, parsers decide each for themselves."""
    model = onnx.load_from_string(pair(np.int8(0)))
    other = helper.make_node("Cast", ["x"], [taken], "other", to=TensorProto.UINT8)
    model.graph.node.insert(1, other)

    with pytest.raises(BundleError, match=f"the Cast node 'other' that gives '{taken}', a name th"):
        check_for_tensorrt(model.SerializeToString(), "graph.onnx")


def test_stored_bytes_that_are_not_int8_are_refused():
    weight = numpy_helper.from_array(np.full((1, 4), 200, np.uint8), "weight")
    model = onnx.load_from_string(pair(np.int8(0)))
    model.graph.initializer.append(weight)
    model.graph.node[1].input[0] = "weight"

    with pytest.raises(BundleError, match="'to_floats' that reads stored bytes which are not int8"):
        check_for_tensorrt(model.SerializeToString(), "graph.onnx")


def test_dequantisation_is_checked_as_well():
    model = onnx.load_from_string(pair(np.int8(0)))
    model.graph.initializer.append(numpy_helper.from_array(np.uint8(0), "other"))
    model.graph.node[1].input[2] = "other"

    with pytest.raises(BundleError, match="DequantizeLinear node 'to_floats' that is not symmetri"):
        check_for_tensorrt(model.SerializeToString(), "graph.onnx")


@pytest.mark.parametrize(
    ("operator", "domain"),
    [("QLinearConv", ""), ("DynamicQuantizeLinear", ""), ("QuantizeLinear", "com.microsoft")],
)
def test_operators_of_another_runtime_are_refused(operator, domain):
    data = graph_of(helper.make_node(operator, ["x"], ["y"], "it", domain=domain))

    with pytest.raises(BundleError, match=f"the {operator} node 'it', which ONNX Runtime alone"):
        check_for_tensorrt(data, "graph.onnx")


def test_functions_and_subgraphs_are_refused():
    body = helper.make_node("Relu", ["x"], ["y"])
    function = helper.make_function(
        "dff", "F", ["x"], ["y"], [body], [helper.make_opsetid("", OPSET)]
    )
    branch = helper.make_graph([], "branch", [], [])
    call = helper.make_node("F", ["x"], ["y"], domain="dff")
    choice = helper.make_node("If", ["x"], ["y"], "choice", then_branch=branch, else_branch=branch)

    with pytest.raises(BundleError, match="has local functions, expected"):
        check_for_tensorrt(graph_of(call, functions=[function]), "graph.onnx")
    with pytest.raises(BundleError, match="the If node 'choice' with a subgraph"):
        check_for_tensorrt(graph_of(choice), "graph.onnx")


def test_the_plugin_node_passes():
    node = helper.make_node("DffWarp", ["x", "x", "x"], ["y"], "warp", domain="dff")

    check_for_tensorrt(graph_of(node), "graph.onnx")
