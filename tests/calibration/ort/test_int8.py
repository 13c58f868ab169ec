"""INT8 graphs: what became integer, and how much of the result is left."""

from __future__ import annotations

import weakref
from collections import Counter

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper

from dff_edge.bundle.contract import graph_contract
from dff_edge.bundle.levels import Levels
from dff_edge.calibration.ort.byte_maps import byte_levels, find_map_ranges
from dff_edge.calibration.ort.int8 import float_nodes, quantize_graph
from dff_edge.export.graphs import FeatureGraph
from dff_edge.export.to_onnx import export_onnx
from dff_edge.runtime.engines.onnxruntime import OrtEngine
from tests.calibration.optimised import optimised_operators
from tests.export.checkpoints import (
    CHANNELS,
    CLASSES,
    FRAME_SIZE,
    tiny_bundle,
    tiny_checkpoint,
)

# Measured: 0.980 (scale field) and more. Random weights have no slack; with a trained
# network's, label maps agree on 99.9% of the pixels.
MIN_CORRELATION = 0.96


@pytest.fixture(scope="module")
def levels(bundle, samples):
    return byte_levels(find_map_ranges(bundle, samples))


@pytest.fixture(scope="module")
def int8(bundle, samples, levels):
    """The quantised graphs by subnet."""
    inputs = {
        "feature": samples.feature_inputs(),
        "flow": samples.flow_inputs(),
        "task": samples.task_inputs(bundle),
    }
    return {
        subnet: quantize_graph(bundle.graph_bytes("fp32", subnet), given, levels)
        for subnet, given in inputs.items()
    }


@pytest.fixture(scope="module")
def simple(tmp_path_factory, samples, levels):
    """FlowNet Simple: fp32 and int8 graph."""
    bundle = tiny_bundle(tmp_path_factory, "simple", scale=False, opset=19)
    graph = bundle.graph_bytes("fp32", "flow")
    return graph, quantize_graph(graph, samples.flow_inputs(), levels)


def operators(graph):
    return Counter(node.op_type for node in onnx.load_from_string(graph).graph.node)


def outputs_of(graph, inputs):
    with OrtEngine(graph, name="graph") as engine:
        outputs = {name: spec.empty() for name, spec in engine.outputs.items()}
        engine.run(inputs, outputs)
    return outputs


def test_every_convolution_of_the_feature_network_becomes_integer(bundle, int8, tmp_path):
    count = operators(bundle.graph_bytes("fp32", "feature"))["Conv"]
    found = optimised_operators(int8["feature"], tmp_path)

    assert found["QLinearConv"] == count == 21
    floats = {"Conv", "FusedConv", "Relu", "Add", "Cast", "Sub", "Transpose"}
    assert not (floats | {"QuantizeLinear", "DequantizeLinear"}) & found.keys()


def test_every_convolution_of_the_flow_network_but_the_flow_itself_becomes_integer(
    bundle, int8, tmp_path
):
    fp32 = operators(bundle.graph_bytes("fp32", "flow"))
    found = optimised_operators(int8["flow"], tmp_path)

    # Without the flow, with the transposed ones and the product that gives the scale field.
    assert found["QLinearConv"] == fp32["Conv"] - 1 + fp32["ConvTranspose"] + 1 == 42
    assert found["Conv"] + found["FusedConv"] == 1  # the flow
    assert found["DequantizeLinear"] == 1  # in front of it
    assert not {"ConvTranspose", "QGemm", "Relu", "Cast", "Sub", "QuantizeLinear"} & found.keys()


def test_frames_and_wide_maps_are_bytes_at_the_borders(bundle, int8):
    for subnet, graph in int8.items():
        contract = graph_contract(
            subnet, frame_size=FRAME_SIZE, channels=CHANNELS, classes=CLASSES, maps="uint8"
        )
        with OrtEngine(graph, name=subnet) as engine:
            assert contract.problems(engine.inputs, engine.outputs) == []


def test_task_network_becomes_one_integer_product(int8, tmp_path):
    found = optimised_operators(int8["task"], tmp_path)

    assert found["QGemm"] == 1
    assert not {"MatMul", "Gemm", "Add"} & found.keys()


def test_every_convolution_of_mobilenet_becomes_integer(samples, levels, tmp_path):
    """Depthwise, strided and dilated ones too; ReLU6 goes away as ReLU does."""
    model = tiny_checkpoint(feature="mobilenet_v2").model
    frame = torch.zeros((1, *FRAME_SIZE, 3), dtype=torch.uint8)
    fp32 = export_onnx(
        FeatureGraph(model, FRAME_SIZE), "feature", {"frame": frame}, ["features"], 17
    )

    graph = quantize_graph(fp32.SerializeToString(), samples.feature_inputs(), levels)

    found = optimised_operators(graph, tmp_path)
    assert found["QLinearConv"] == operators(fp32.SerializeToString())["Conv"] == 52
    floats = {"Conv", "FusedConv", "Clip", "Relu", "Add", "Cast", "Sub", "Transpose"}
    assert not (floats | {"QuantizeLinear", "DequantizeLinear"}) & found.keys()


@pytest.mark.parametrize("bits", [7, 8])
def test_two_products_of_dense_layers_fit_16_bits_with_weights_of_7(samples, levels, bits):
    model = tiny_checkpoint(feature="mobilenet_v2").model
    frame = torch.zeros((1, *FRAME_SIZE, 3), dtype=torch.uint8)
    fp32 = export_onnx(
        FeatureGraph(model, FRAME_SIZE), "feature", {"frame": frame}, ["features"], 17
    ).SerializeToString()

    graph = quantize_graph(fp32, samples.feature_inputs(), levels, weight_bits=bits)

    largest = {True: 0, False: 0}  # of the weights of depthwise layers, and of the others
    for weights, groups in integer_weights(graph):
        pairs = 255 * 2 * int(np.abs(weights.astype(int)).max())
        largest[groups > 1] = max(largest[groups > 1], pairs)
    assert largest[True] == 255 * 2 * 127  # no kernel adds two of a depthwise layer in 16 bits
    assert largest[False] == 255 * 2 * {7: 64, 8: 127}[bits]
    assert (largest[False] < 2**15) == (bits == 7)


def test_constants_that_are_no_weights_keep_8_bits(bundle, samples, levels):
    given = list(samples.feature_inputs())
    fp32 = bundle.graph_bytes("fp32", "feature")
    means = [
        {
            tensor.name: numpy_helper.to_array(tensor).tolist()
            for tensor in onnx.load_from_string(
                quantize_graph(fp32, given, levels, weight_bits=bits)
            ).graph.initializer
            if "mean" in tensor.name
        }
        for bits in (7, 8)
    ]

    assert means[0]
    assert means[0] == means[1]


def integer_weights(graph):
    """Yield the weights of each convolution and product, and its groups."""
    model = onnx.load_from_string(graph)
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    makers = {node.output[0]: node for node in model.graph.node}
    for node in model.graph.node:
        if node.op_type in ("Conv", "MatMul", "Gemm"):
            maker = makers[node.input[1]]
            assert maker.op_type == "DequantizeLinear"
            groups = next((a.i for a in node.attribute if a.name == "group"), 1)
            yield stored[maker.input[0]], groups


@pytest.mark.parametrize("neck", ["dilated", "pyramid"])
@pytest.mark.parametrize("stride", [8, 16])
def test_every_convolution_of_efficientnet_becomes_integer(samples, levels, tmp_path, neck, stride):
    """With uneven padding, and the transposed convolutions of the neck."""
    model = tiny_checkpoint(feature="efficientnet_lite0", neck=neck, stride=stride).model
    frame = torch.zeros((1, *FRAME_SIZE, 3), dtype=torch.uint8)
    fp32 = export_onnx(
        FeatureGraph(model, FRAME_SIZE), "feature", {"frame": frame}, ["features"], 18
    )

    graph = quantize_graph(fp32.SerializeToString(), samples.feature_inputs(), levels)

    before, found = operators(fp32.SerializeToString()), optimised_operators(graph, tmp_path)
    # Stem, 15 blocks of three convolutions and one of two, feat_conv; a lateral one a level.
    levels_joined = {"dilated": 0, "pyramid": {8: 3, 16: 2}[stride]}[neck]
    assert before["Conv"] == 1 + 47 + 1 + levels_joined
    assert found["QLinearConv"] == before["Conv"] + before["ConvTranspose"]
    floats = {"Conv", "FusedConv", "ConvTranspose", "Pad", "Clip", "Relu", "Add", "Cast", "Sub"}
    assert not (floats | {"QuantizeLinear", "DequantizeLinear"}) & found.keys()


def test_relu6_is_the_range_of_the_bytes(levels):
    """By hand: 10 in gives 6 in float, and the highest byte of 0..6 in int8."""
    nodes = [
        helper.make_node("Conv", ["x", "one"], ["product"], "conv"),
        helper.make_node("Clip", ["product", "low", "high"], ["clipped"], "clip"),
        helper.make_node("Conv", ["clipped", "one"], ["y"], "again"),
    ]
    stored = {"one": np.ones((1, 1, 1, 1)), "low": np.array(0.0), "high": np.array(6.0)}
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "relu6",
            [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 1, 1, 4])],
            [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 1, 1, 4])],
            [numpy_helper.from_array(v.astype(np.float32), name) for name, v in stored.items()],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
    )
    given = {"x": np.array([[[[-3, 2, 5, 10]]]], np.float32)}

    graph = quantize_graph(model.SerializeToString(), [given], levels)

    assert operators(graph)["Clip"] == 0
    np.testing.assert_allclose(outputs_of(graph, given)["y"].ravel(), [0, 2, 5, 6], atol=0.05)


def test_a_layer_with_one_channel_and_a_bias_is_standard_onnx(levels):
    """A step of shape (1,) beside a scalar zero is none: a bundle with it is refused."""
    stored = {"weight": np.full((1, 3, 1, 1), 0.5, np.float32), "bias": np.array([2.0], np.float32)}
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node("Conv", ["x", "weight", "bias"], ["y"], "conv")],
            "objectness",
            [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 3, 1, 4])],
            [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 1, 1, 4])],
            [numpy_helper.from_array(value, name) for name, value in stored.items()],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
    )
    given = {"x": np.arange(12, dtype=np.float32).reshape(1, 3, 1, 4)}

    graph = quantize_graph(model.SerializeToString(), [given], levels)

    tensors = {tensor.name: tensor for tensor in onnx.load_from_string(graph).graph.initializer}
    for node in onnx.load_from_string(graph).graph.node:
        if node.op_type == "DequantizeLinear":
            step, zero = (tensors[name].dims for name in node.input[1:])
            assert list(step) == list(zero), node.name
    expected = 2 + 0.5 * given["x"].sum(axis=1).ravel()
    np.testing.assert_allclose(outputs_of(graph, given)["y"].ravel(), expected, atol=0.1)


def test_task_network_without_layers_reads_bytes(levels):
    """Split "none": the scores themselves are propagated."""
    shape = [1, 2, 3, 4]
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node("Identity", ["features"], ["scores"], "same")],
            "task",
            [helper.make_tensor_value_info("features", onnx.TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, shape)],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
    )

    graph = quantize_graph(model.SerializeToString(), [], levels)

    bytes_ = np.arange(24, dtype=np.uint8).reshape(shape)
    own = levels.features
    expected = own.step * (bytes_.astype(np.float32) - own.zero)
    found = outputs_of(graph, {"features": bytes_})["scores"]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_leaky_relu_is_integer_between_pairs_of_its_own(simple, tmp_path):
    fp32, graph = simple
    found = optimised_operators(graph, tmp_path)

    before = operators(fp32)
    assert found["QLinearConv"] == before["Conv"] - 1 + before["ConvTranspose"]
    assert found["QLinearLeakyRelu"] == before["LeakyRelu"]


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
        correlation = np.corrcoef(array.ravel(), values.ravel())[0, 1]
        assert correlation > MIN_CORRELATION, name
        # Levels that were wrong by a factor or an offset would correlate just as well.
        assert np.abs(values - array).mean() < 0.1 * np.abs(array).max(), name


def test_a_flow_network_without_scale_head_gives_the_byte_that_means_one(simple, samples, levels):
    _, graph = simple
    scale = outputs_of(graph, next(samples.flow_inputs()))["scale"]

    assert scale.dtype == np.uint8
    assert np.unique(levels.scale.dequantize(scale)) == pytest.approx([1.0], abs=1e-6)


@pytest.mark.parametrize("subnet", ["feature", "flow"])
def test_frames_brighter_than_the_calibration_are_not_cut_off(bundle, samples, levels, subnet):
    """Clips from dusk: what bytes can be is known without looking."""
    fp32 = bundle.graph_bytes("fp32", subnet)
    reader = {"feature": samples.feature_inputs, "flow": samples.flow_inputs}[subnet]
    dark = ({name: array // 3 for name, array in inputs.items()} for inputs in reader())
    model = onnx.load_from_string(quantize_graph(fp32, dark, levels))
    stored = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    given = onnx.load_from_string(fp32).graph.initializer
    (mean,) = (onnx.numpy_helper.to_array(t) for t in given if t.name == "centre.mean")

    (add,) = (node for node in model.graph.node if node.name == "stem/centred")
    (q,) = (node for node in model.graph.node if node.input[0] == add.output[0])
    centred = Levels(*(stored[name].item() for name in q.input[1:]))
    assert centred.range[0] <= -mean.max() + centred.step
    assert centred.range[1] >= 255 - mean.min() - centred.step


def test_samples_are_read_one_by_one_and_not_kept(bundle, samples, levels):
    given = []
    most_alive = 0

    def fresh_arrays():
        nonlocal most_alive
        for inputs in samples.feature_inputs():
            frame = inputs["frame"].copy()
            given.append(weakref.ref(frame))
            most_alive = max(most_alive, sum(ref() is not None for ref in given))
            yield {"frame": frame}

    quantize_graph(bundle.graph_bytes("fp32", "feature"), fresh_arrays(), levels)

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
