"""FP16 graphs for TensorRT: what is half, what is not, and how close the results are."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from dff_edge.bundle.contract import graph_contract
from dff_edge.bundle.graphs.onnx_check import check_onnx
from dff_edge.calibration.trt.fp16 import to_half
from dff_edge.errors import CalibrationError
from tests.calibration.graphs import model_of
from tests.calibration.ort.test_fp16 import MAX_RELATIVE_ERROR
from tests.calibration.ort.test_int8 import outputs_of
from tests.export.checkpoints import CHANNELS, CLASSES, FRAME_SIZE, tiny_bundle

SUBNETS = ("feature", "flow", "task")


def half_types(model):
    """Element type of every value of a graph, by shape inference."""
    inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    values = (*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output)
    return {v.name: v.type.tensor_type.elem_type for v in values}


@pytest.mark.parametrize("subnet", SUBNETS)
def test_maps_are_half_at_the_borders(bundle, subnet):
    summary = check_onnx(to_half(bundle.graph_bytes("fp32", subnet)), subnet).summary
    contract = graph_contract(
        subnet, frame_size=FRAME_SIZE, channels=CHANNELS, classes=CLASSES, maps="float16"
    )

    assert contract.problems(summary.inputs, summary.outputs) == []


@pytest.mark.parametrize("subnet", SUBNETS)
def test_results_are_close_to_fp32(bundle, samples, subnet):
    graph = bundle.graph_bytes("fp32", subnet)
    inputs = next(
        {
            "feature": samples.feature_inputs,
            "flow": samples.flow_inputs,
            "task": lambda: samples.task_inputs(bundle),
        }[subnet]()
    )
    halves = {n: a.astype(np.float16) if a.dtype == np.float32 else a for n, a in inputs.items()}
    expected, found = outputs_of(graph, inputs), outputs_of(to_half(graph), halves)

    for name, array in expected.items():
        error = np.abs(found[name].astype(np.float32) - array).max() / np.abs(array).max()
        assert 0 < error < MAX_RELATIVE_ERROR, name


@pytest.mark.parametrize("flow", ["inception", "simple"])
def test_convolutions_are_half_but_the_flow(tmp_path_factory, flow):
    options = {"scale": False, "opset": 19} if flow == "simple" else {}  # as other tests have it
    bundle = tiny_bundle(tmp_path_factory, flow, **options)
    model = onnx.load_from_string(to_half(bundle.graph_bytes("fp32", "flow")))
    types = half_types(model)
    convolutions = [n for n in model.graph.node if n.op_type in ("Conv", "ConvTranspose")]
    floats = [n for n in convolutions if types[n.output[0]] == TensorProto.FLOAT]

    assert len(floats) == 1
    (transpose,) = (n for n in model.graph.node if "flow" in n.output)
    assert transpose.input[0] == floats[0].output[0]
    assert types["flow"] == TensorProto.FLOAT
    stored = {t.name: t.data_type for t in model.graph.initializer}
    assert all(
        stored[n.input[1]] == types[n.output[0]] for n in convolutions if n.input[1] in stored
    )


def test_the_scale_field_is_half_all_the_way(bundle):
    """Casts of C-channel maps would cost more than the bias that they are for."""
    model = onnx.load_from_string(to_half(bundle.graph_bytes("fp32", "flow")))
    types, makers = half_types(model), {n.output[0]: n for n in model.graph.node}
    node, operators = makers["scale"], []
    while node.op_type != "Transpose":  # of what both heads read
        operators.append(node.op_type)
        assert types[node.output[0]] == TensorProto.FLOAT16
        node = makers[node.input[0]]

    assert "MatMul" in operators
    assert "Cast" not in operators


@pytest.mark.parametrize(("subnet", "frames"), [("feature", 1), ("flow", 2)])
def test_frames_are_centred_in_float32(bundle, subnet, frames):
    model = onnx.load_from_string(to_half(bundle.graph_bytes("fp32", subnet)))
    types = half_types(model)
    casts = [n for n in model.graph.node if types[n.input[0]] == TensorProto.UINT8]
    (sub,) = (n for n in model.graph.node if n.op_type == "Sub")

    assert [n.op_type for n in casts] == ["Cast"] * frames
    assert {types[n.output[0]] for n in casts} == {TensorProto.FLOAT}
    assert types[sub.output[0]] == TensorProto.FLOAT


def test_a_weight_beyond_half_is_refused_by_name():
    nodes = [helper.make_node("Mul", ["features", "huge"], ["scores"], "mul")]
    spec = (np.float32, [1, 2])
    model = model_of(
        nodes, {"features": spec}, {"scores": spec}, {"huge": np.array([7e4], np.float32)}
    )

    with pytest.raises(
        CalibrationError, match="weight 'huge' holds 7e\\+04, expected at most 65504"
    ):
        to_half(model.SerializeToString())


def test_an_output_that_is_also_read_inside_leaves_in_its_own_type():
    nodes = [
        helper.make_node("Neg", ["features"], ["scores"], "minus"),
        helper.make_node("Abs", ["scores"], ["scale"], "abs"),
    ]
    spec = (np.float32, [1, 2])
    model = model_of(nodes, {"features": spec}, {"scores": spec, "scale": spec})

    found = outputs_of(
        to_half(model.SerializeToString()), {"features": np.array([[1, -2]], np.float16)}
    )

    assert found["scores"].dtype == np.float32
    assert found["scale"].dtype == np.float16
    assert found["scores"].tolist() == [[-1, 2]]
    assert found["scale"].tolist() == [[1, 2]]
