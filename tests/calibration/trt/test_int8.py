"""INT8 for TensorRT: where the pairs stand, and how much of the result is left."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from dff_edge.bundle.contract import graph_contract
from dff_edge.bundle.graphs.onnx_check import check_onnx
from dff_edge.bundle.graphs.tensorrt_check import check_for_tensorrt
from dff_edge.bundle.levels import INT8, MIN_STEP, Levels, MapLevels
from dff_edge.calibration.ort.byte_maps import MapRanges, find_map_ranges
from dff_edge.calibration.trt.int8 import quantize_symmetric, step_over, symmetric_levels
from tests.calibration.graphs import model_of
from tests.calibration.ort.test_int8 import outputs_of
from tests.export.checkpoints import CHANNELS, CLASSES, FRAME_SIZE, tiny_bundle

# Measured: 0.978 (scale field) and more. Random weights have no slack.
MIN_CORRELATION = 0.95
CONVOLUTIONS = ("Conv", "ConvTranspose")
SUBNETS = ("feature", "flow", "task")
# ONNX Runtime has subnormal numbers taken for zero, in whatever thread made a session.
NORMAL = {"allow_subnormal": False, "width": 32}
FINITE = st.floats(-1e4, 1e4, **NORMAL)


@pytest.fixture(scope="module")
def levels(bundle, samples):
    return symmetric_levels(find_map_ranges(bundle, samples))


@pytest.fixture(scope="module")
def int8(bundle, samples, levels):
    inputs = {"feature": samples.feature_inputs(), "flow": samples.flow_inputs(), "task": []}
    return {
        subnet: quantize_symmetric(bundle.graph_bytes("fp32", subnet), given, levels)
        for subnet, given in inputs.items()
    }


@pytest.fixture(scope="module")
def simple(tmp_path_factory, samples, levels):
    """FlowNet Simple without scale head: fp32 and int8 graph."""
    bundle = tiny_bundle(tmp_path_factory, "simple", scale=False, opset=19)
    graph = bundle.graph_bytes("fp32", "flow")
    return graph, quantize_symmetric(graph, samples.flow_inputs(), levels)


class Graph:
    """A graph by what makes and what reads its values."""

    def __init__(self, data):
        self.nodes = onnx.load_from_string(data).graph.node
        self.tensors = {
            t.name: numpy_helper.to_array(t) for t in onnx.load_from_string(data).graph.initializer
        }
        self.makers = {name: node for node in self.nodes for name in node.output}

    def maker(self, name):
        return self.makers[name].op_type if name in self.makers else None

    def readers(self, node):
        return [other.op_type for other in self.nodes if node.output[0] in other.input]

    def convolutions(self):
        return [node for node in self.nodes if node.op_type in CONVOLUTIONS]


@given(FINITE, FINITE)
@example(0.0, 6.170926571954529e-33)
def test_steps_cover_the_range(a, b):
    step = step_over(min(a, b), max(a, b))
    largest = max(abs(a), abs(b))

    assert MIN_STEP <= step
    assert largest <= 127 * step * (1 + 1e-6)
    assert step <= largest / 127 * (1 + 1e-6) or largest < 2 * 127 * MIN_STEP


@given(st.floats(-120, 1, **NORMAL), st.floats(1, 120, **NORMAL))
def test_steps_that_hit_one_do_and_cover_the_range(low, high):
    step = step_over(low, high, hit_one=True)

    assert Levels(step, 0, INT8).quantize(np.ones(1)) * step == pytest.approx(1.0, abs=1e-6)
    assert max(-low, high) <= 127 * step * (1 + 1e-6)


def test_steps_by_hand():
    assert step_over(-2.0, 127.0) == 1.0
    assert step_over(-254.0, 1.0) == 2.0
    assert step_over(0.0, 0.0) == 1.0
    assert step_over(0.2, 2.0, hit_one=True) == float(np.float32(1 / 63))
    ranges = MapRanges(features=(-1.27, 0.5), scale=(0.5, 1.0))
    assert symmetric_levels(ranges) == MapLevels(
        Levels(float(np.float32(0.01)), 0, INT8), Levels(float(np.float32(1 / 127)), 0, INT8)
    )


@pytest.mark.parametrize("subnet", SUBNETS)
def test_frames_are_bytes_and_wide_maps_int8_at_the_borders(int8, subnet):
    checked = check_onnx(int8[subnet], subnet, flavour="trt")
    summary = checked.summary
    contract = graph_contract(
        subnet, frame_size=FRAME_SIZE, channels=CHANNELS, classes=CLASSES, maps="int8"
    )

    assert contract.problems(summary.inputs, summary.outputs) == []
    check_for_tensorrt(checked, subnet)


@pytest.mark.parametrize(("subnet", "floats"), [("feature", 0), ("flow", 1), ("task", 0)])
def test_every_convolution_but_the_flow_has_pairs_on_both_sides_of_its_product(
    bundle, int8, subnet, floats
):
    graph = Graph(int8[subnet])
    before = bundle.graph_summary("fp32", subnet).operators
    convolutions = graph.convolutions()
    integer = [
        node
        for node in convolutions
        if all(graph.maker(name) == "DequantizeLinear" for name in node.input[:2])
    ]

    assert len(convolutions) == before["Conv"] + before["ConvTranspose"] + before["MatMul"]
    assert len(convolutions) - len(integer) == floats
    for node in integer:
        weight, steps, zeros = graph.makers[node.input[1]].input
        # TensorRT's versions do not agree on which axis of a transposed weight is the channels'.
        expected = graph.tensors[weight].shape[:1] if node.op_type == "Conv" else ()
        assert graph.tensors[weight].dtype == np.int8
        assert graph.tensors[steps].shape == expected
        assert not graph.tensors[zeros].any()
        assert all(graph.tensors[name].dtype == np.float32 for name in node.input[2:])  # the bias


@pytest.mark.parametrize("subnet", ["feature", "flow"])
def test_nothing_stands_between_a_convolution_and_its_activation(bundle, int8, subnet):
    graph, before = Graph(int8[subnet]), Graph(bundle.graph_bytes("fp32", subnet))

    def pairs_of(graph):
        return Counter(
            reader
            for node in graph.convolutions()
            for reader in graph.readers(node)
            if reader in ("Relu", "LeakyRelu")
        )

    assert pairs_of(graph) == pairs_of(before) != Counter()


def test_one_branch_of_each_sum_is_int8_and_the_other_a_convolution(int8):
    graph = Graph(int8["feature"])
    sums = [node for node in graph.nodes if node.op_type == "Add"]

    assert len(sums) == 8  # of ResNet-18's blocks
    for node in sums:
        assert sorted(map(graph.maker, node.input)) == ["Conv", "DequantizeLinear"]


def test_leaky_relu_follows_its_convolution_and_transposed_ones_are_int8(simple):
    fp32, int8 = (Graph(data) for data in simple)
    leaky = [node for node in int8.nodes if node.op_type == "LeakyRelu"]

    assert len(leaky) == sum(node.op_type == "LeakyRelu" for node in fp32.nodes) > 0
    assert {int8.maker(node.input[0]) for node in leaky} <= set(CONVOLUTIONS)
    transposed = [node for node in int8.nodes if node.op_type == "ConvTranspose"]
    assert {int8.maker(node.input[1]) for node in transposed} == {"DequantizeLinear"}


@pytest.mark.parametrize("subnet", SUBNETS)
def test_results_are_close_to_fp32(bundle, samples, levels, int8, subnet):
    inputs = next(
        {
            "feature": samples.feature_inputs,
            "flow": samples.flow_inputs,
            "task": lambda: samples.task_inputs(bundle),
        }[subnet]()
    )
    expected = outputs_of(bundle.graph_bytes("fp32", subnet), inputs)
    if subnet == "task":
        inputs = {"features": levels.features.quantize(inputs["features"])}
    found = outputs_of(int8[subnet], inputs)
    by_name = {"features": levels.features, "scale": levels.scale}

    for name, array in expected.items():
        values = by_name[name].dequantize(found[name]) if name in by_name else found[name]
        assert np.corrcoef(array.ravel(), values.ravel())[0, 1] > MIN_CORRELATION, name
        # Steps that were wrong by a factor would correlate just as well.
        assert np.abs(values - array).mean() < 0.1 * np.abs(array).max(), name


@pytest.mark.parametrize("operator", CONVOLUTIONS)
def test_a_bias_beside_weights_of_next_to_nothing_is_kept(operator):
    """As weight decay leaves a channel of the scale head; int32 holds no 1 in steps of 1e-11."""
    weight = np.float32([[0.5, -0.25], [1e-9, 2e-9]])[..., None, None]
    erased = weight if operator == "Conv" else 1e-9 * weight.transpose(1, 0, 2, 3)
    bias = np.float32([0.25, 1.0])
    x = np.linspace(-1, 1, 18, dtype=np.float32).reshape(1, 2, 3, 3)
    model = model_of(
        [helper.make_node(operator, ["x", "weight", "bias"], ["scale"], "conv")],
        {"x": (np.float32, [1, 2, 3, 3])},
        {"scale": (np.float32, [1, 2, 3, 3])},
        {"weight": erased, "bias": bias},
    )
    levels = MapLevels(features=Levels(1.0, 0, INT8), scale=Levels(0.01, 0, INT8))

    int8 = quantize_symmetric(model.SerializeToString(), [{"x": x}], levels)

    found = levels.scale.dequantize(outputs_of(int8, {"x": x})["scale"])
    expected = outputs_of(model.SerializeToString(), {"x": x})["scale"]
    np.testing.assert_allclose(found, expected, rtol=0, atol=0.02)


def test_a_flow_network_without_scale_head_gives_what_means_one(simple, samples, levels):
    scale = outputs_of(simple[1], next(samples.flow_inputs()))["scale"]

    assert scale.dtype == np.int8
    assert np.unique(levels.scale.dequantize(scale)) == pytest.approx([1.0], abs=1e-6)


@pytest.mark.parametrize("subnet", ["feature", "flow"])
def test_frames_brighter_than_the_calibration_are_not_cut_off(bundle, samples, levels, subnet):
    """Clips from dusk: what bytes can be is known without looking."""
    reader = {"feature": samples.feature_inputs, "flow": samples.flow_inputs}[subnet]
    dark = ({name: array // 3 for name, array in inputs.items()} for inputs in reader())
    graph = Graph(quantize_symmetric(bundle.graph_bytes("fp32", subnet), dark, levels))

    mean = graph.tensors["centre.mean"]
    first = graph.convolutions()[0]
    step = graph.tensors[graph.makers[first.input[0]].input[1]]
    # Levels of 255 steps that hit zero may end half a step inside.
    assert 127 * step >= max(mean.max(), 255 - mean.min()) - 0.6
    assert 127 * step <= max(mean.max(), 255 - mean.min()) + 2


def test_samples_are_read_once(bundle, samples, levels):
    inputs = samples.feature_inputs()
    quantize_symmetric(bundle.graph_bytes("fp32", "feature"), inputs, levels)

    assert next(inputs, None) is None


def test_only_the_standard_operators_are_imported(int8):
    for graph in int8.values():
        imports = onnx.load_from_string(graph).opset_import
        assert [(entry.domain, entry.version) for entry in imports] == [("", 17)]
