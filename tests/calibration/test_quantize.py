"""INT8 graphs: what became integer, and how much of the result is left."""

from __future__ import annotations

import weakref
from collections import Counter

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from dff_edge.calibration.quantize import float_nodes, quantize_graph
from dff_edge.runtime.engine import OrtEngine
from tests.calibration.optimised import optimised_operators
from tests.export.checkpoints import tiny_bundle

# Measured: 0.980 (scale field) and more. Random weights have no slack; with a trained
# network's, label maps agree on 99.9% of the pixels.
MIN_CORRELATION = 0.96


@pytest.fixture(scope="module")
def int8(bundle, samples):
    """The quantised graphs by subnet."""
    return {
        "feature": quantize_graph(bundle.graph_bytes("fp32", "feature"), samples.feature_inputs()),
        "flow": quantize_graph(bundle.graph_bytes("fp32", "flow"), samples.flow_inputs()),
        "task": quantize_graph(bundle.graph_bytes("fp32", "task"), samples.task_inputs(bundle)),
    }


@pytest.fixture(scope="module")
def simple(tmp_path_factory, samples):
    """FlowNet Simple: fp32 and int8 graph."""
    bundle = tiny_bundle(tmp_path_factory, "simple", scale=False, opset=19)
    graph = bundle.graph_bytes("fp32", "flow")
    return graph, quantize_graph(graph, samples.flow_inputs())


def operators(graph):
    return Counter(node.op_type for node in onnx.load_from_string(graph).graph.node)


def outputs_of(graph, inputs):
    with OrtEngine(graph, name="graph") as engine:
        outputs = {name: spec.empty() for name, spec in engine.outputs.items()}
        engine.run(inputs, outputs)
    return outputs


def stored(graph, name):
    model = onnx.load_from_string(graph)
    (tensor,) = (t for t in model.graph.initializer if t.name == name)
    return numpy_helper.to_array(tensor)


def input_range(graph):
    """Smallest and largest value that the only quantised activation can take."""
    model = onnx.load_from_string(graph)
    (node,) = (n for n in model.graph.node if n.op_type == "QuantizeLinear")
    scale, zero = (stored(graph, n) for n in node.input[1:])
    return float((0.0 - zero) * scale), float((255.0 - zero) * scale)


def test_every_convolution_of_the_feature_network_becomes_integer(bundle, int8, tmp_path):
    count = operators(bundle.graph_bytes("fp32", "feature"))["Conv"]
    found = optimised_operators(int8["feature"], tmp_path)

    assert found["QLinearConv"] == count == 21
    assert not {"Conv", "FusedConv", "Relu", "Add", "Transpose"} & found.keys()
    assert found["DequantizeLinear"] == 1


def test_every_convolution_of_the_flow_network_but_the_flow_itself_becomes_integer(
    bundle, int8, tmp_path
):
    count = operators(bundle.graph_bytes("fp32", "flow"))["Conv"]
    found = optimised_operators(int8["flow"], tmp_path)

    assert found["QLinearConv"] == count - 1 == 39
    assert found["Conv"] + found["FusedConv"] == 1  # the flow
    assert found["QGemm"] == 1  # the scale field
    assert found["Relu"] == 0


def test_task_network_becomes_one_integer_product(int8, tmp_path):
    found = optimised_operators(int8["task"], tmp_path)

    assert found["QGemm"] == 1
    assert not {"MatMul", "Gemm", "Add"} & found.keys()


def test_leaky_relu_is_integer_between_pairs_of_its_own(simple, tmp_path):
    fp32, graph = simple
    found = optimised_operators(graph, tmp_path)

    # Two of FlowNet Simple's stand behind ConvTranspose, which gives float.
    assert found["QLinearConv"] == operators(fp32)["Conv"] - 1
    assert found["QLinearLeakyRelu"] == operators(fp32)["LeakyRelu"]


def test_transposed_convolutions_keep_their_weights(simple, bundle, int8):
    for fp32, graph in (simple, (bundle.graph_bytes("fp32", "flow"), int8["flow"])):
        before = onnx.load_from_string(fp32)
        kinds = {t.name: t.data_type for t in onnx.load_from_string(graph).graph.initializer}
        weights = [n.input[1] for n in before.graph.node if n.op_type == "ConvTranspose"]

        assert weights
        assert {kinds[name] for name in weights} == {onnx.TensorProto.FLOAT}


def test_weights_have_a_scale_for_each_channel(int8):
    model = onnx.load_from_string(int8["feature"])
    kinds = {t.name: (t.data_type, list(t.dims)) for t in model.graph.initializer}
    weights = {
        n: d for n, (kind, d) in kinds.items() if kind == onnx.TensorProto.INT8 and len(d) == 4
    }
    scales = {
        node.input[0]: kinds[node.input[1]][1]
        for node in model.graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] in weights
    }

    assert len(weights) == 21
    assert all(scales[name] == [dims[0]] for name, dims in weights.items())


@pytest.mark.parametrize("subnet", ["feature", "flow", "task"])
def test_results_are_close_to_fp32(bundle, samples, int8, subnet):
    inputs = next(
        {
            "feature": samples.feature_inputs,
            "flow": samples.flow_inputs,
            "task": lambda: samples.task_inputs(bundle),
        }[subnet]()
    )
    expected = outputs_of(bundle.graph_bytes("fp32", subnet), inputs)
    found = outputs_of(int8[subnet], inputs)

    for name, array in expected.items():
        correlation = np.corrcoef(array.ravel(), found[name].ravel())[0, 1]
        assert correlation > MIN_CORRELATION, name


def test_range_of_the_task_input_is_that_of_its_samples(bundle, samples, int8):
    seen = [inputs["features"] for inputs in samples.task_inputs(bundle)]
    low, high = input_range(int8["task"])

    assert low == min(0.0, min(float(a.min()) for a in seen))
    assert high == pytest.approx(max(float(a.max()) for a in seen), rel=1e-5)


def test_samples_are_read_one_by_one_and_not_kept(bundle, samples):
    given = []
    most_alive = 0

    def fresh_arrays():
        nonlocal most_alive
        for inputs in samples.feature_inputs():
            frame = inputs["frame"].copy()
            given.append(weakref.ref(frame))
            most_alive = max(most_alive, sum(ref() is not None for ref in given))
            yield {"frame": frame}

    quantize_graph(bundle.graph_bytes("fp32", "feature"), fresh_arrays())

    assert len(given) == 10
    assert most_alive <= 2  # the one before, and the one that is being made


@pytest.mark.parametrize("subnet", ["feature", "flow", "task"])
def test_only_the_standard_operators_are_imported(int8, subnet):
    imports = onnx.load_from_string(int8[subnet]).opset_import

    assert [(entry.domain, entry.version) for entry in imports] == [("", 17)]


def test_bias_of_a_product_and_the_flow_stay_float(bundle):
    model = onnx.load_from_string(bundle.graph_bytes("fp32", "flow"))
    kinds = Counter(node.op_type for node in model.graph.node if node.name in float_nodes(model))

    assert kinds == {"Add": 1, "Conv": 1, "Transpose": 1}
