"""The graphs for TensorRT in its parser, and builds of them; no GPU is needed."""

from __future__ import annotations

import shutil

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from benchmarks._rtx import RtxNetwork, load_rtx
from dff_edge.bundle.graphs.onnx_check import check_onnx
from dff_edge.bundle.graphs.tensorrt_check import check_for_tensorrt
from dff_edge.calibration import calibrate_bundle
from dff_edge.data.clips import open_clips
from dff_edge.errors import BundleError
from tests.export.checkpoints import FRAME_SIZE, tiny_bundle

try:
    load_rtx()
except ImportError as error:
    pytest.skip(
        f"TensorRT for RTX is not installed ({error}): pip install tensorrt-rtx",
        allow_module_level=True,
    )

PRECISIONS = ("fp32", "fp16", "int8")
GRAPHS = ("feature", "flow", "task", "propagate_portable")
CAPABILITIES = ("SM89", "SM120")  # Ada and Blackwell
TYPES = {"uint8": "UINT8", "float32": "FLOAT", "float16": "HALF", "int8": "INT8"}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    height, width = FRAME_SIZE
    clips = open_clips(
        f"synthetic://street?split=train&seed=40&clips=2&frames=8&height={height}&width={width}"
    )
    path = tmp_path_factory.mktemp("rtx") / "bundle"
    shutil.copytree(tiny_bundle(tmp_path_factory).path, path)
    return calibrate_bundle(
        path, clips, source="clips", flavours=["trt"], max_keys=10, pairs_per_key=2
    )


def parse(bundle, precision, graph):
    return RtxNetwork(bundle.graph_bytes(precision, graph, "trt"))


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_graph_parses_with_the_types_of_the_contract_and_builds(bundle, precision, graph):
    network = parse(bundle, precision, graph)
    contract = bundle.manifest.contract(precision, graph, "trt")

    assert network.errors == ()
    specs = [*contract.inputs.values(), *contract.outputs.values()]
    assert network.types() == {spec.name: TYPES[spec.dtype.name] for spec in specs}
    assert network.build(CAPABILITIES) > 0


@pytest.mark.parametrize("scale", [True, False], ids=["scale", "no-scale"])
def test_flownet_simple_builds_in_int8(tmp_path_factory, bundle, scale):
    from dff_edge.calibration.trt.int8 import quantize_symmetric

    graph = tiny_bundle(tmp_path_factory, "simple", scale=scale, opset=19).graph_bytes(
        "fp32", "flow"
    )
    rng = np.random.default_rng(5)
    size = (1, FRAME_SIZE[0] // 2, FRAME_SIZE[1] // 2, 3)
    sample = {n: rng.integers(0, 256, size, np.uint8) for n in ("key_half", "frame_half")}
    levels = bundle.manifest.map_levels("int8", "trt")

    network = RtxNetwork(quantize_symmetric(graph, [sample], levels))

    assert network.errors == ()
    assert network.build(CAPABILITIES) > 0


@pytest.mark.parametrize("precision", PRECISIONS)
def test_portable_warp_is_a_bilinear_sampler_with_zeros_outside(bundle, precision):
    trt = load_rtx()
    (sampler,) = parse(bundle, precision, "propagate_portable").layers("GRID_SAMPLE")
    sampler.__class__ = trt.IGridSampleLayer  # Python is given the base class

    assert sampler.interpolation_mode == trt.InterpolationMode.LINEAR
    assert sampler.sample_mode == trt.SampleMode.FILL
    assert not sampler.align_corners


@pytest.mark.parametrize(("graph", "floats"), [("feature", 0), ("flow", 1), ("task", 0)])
def test_int8_convolutions_read_int8_maps_and_weights(bundle, graph, floats):
    network = parse(bundle, "int8", graph)
    convolutions = network.layers("CONVOLUTION", "DECONVOLUTION")
    integer = 0
    for layer in convolutions:
        if layer.num_inputs < 2:  # its weights are its own, float: the flow
            continue
        for dequantise in network.sources(layer)[:2]:
            assert dequantise.type.name == "DEQUANTIZE", layer.name
            assert dequantise.get_input(0).dtype.name == "INT8", layer.name
        integer += 1

    assert len(convolutions) - integer == floats
    fp32 = bundle.graph_summary("fp32", graph, "trt").operators
    assert len(convolutions) == fp32["Conv"] + fp32["ConvTranspose"] + fp32["MatMul"]


@pytest.mark.parametrize(("graph", "floats"), [("feature", 0), ("flow", 1)])
def test_fp16_convolutions_give_halves(bundle, graph, floats):
    layers = parse(bundle, "fp16", graph).layers("CONVOLUTION", "DECONVOLUTION")
    types = [layer.get_output(0).dtype.name for layer in layers]

    assert types.count("FLOAT") == floats
    assert types.count("HALF") == len(types) - floats > 10


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_warp_node_is_looked_for_as_a_plugin_and_nothing_else_is_wrong(bundle, precision):
    """TensorRT for RTX has no plugins; the plugin's own tests show that TensorRT takes it."""
    (error,) = parse(bundle, precision, "propagate").errors

    assert "Plugin not found, are the plugin name, version, and namespace correct?" in error


def conversions(dtype):
    """Q and DQ of a zero point 0."""
    inputs, outputs = (
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4])] for name in ("x", "y")
    )
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "step", "zero"], ["bytes"], "bytes"),
        helper.make_node("DequantizeLinear", ["bytes", "step", "zero"], ["y"], "floats"),
    ]
    tensors = {"step": np.float32(0.1), "zero": dtype(0)}
    stored = [numpy_helper.from_array(np.asarray(value), n) for n, value in tensors.items()]
    graph = helper.make_graph(nodes, "bytes", inputs, outputs, stored)
    imports = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8).SerializeToString()


def test_bytes_that_the_parser_takes_for_int8_are_refused_before():
    graph = conversions(np.uint8)
    network = RtxNetwork(graph)

    # The trap: bytes of 128 and more would be cut off, without an error.
    assert network.errors == ()
    assert [q.get_output(0).dtype.name for q in network.layers("QUANTIZE")] == ["INT8"]
    with pytest.raises(BundleError, match="QuantizeLinear node 'bytes' that is not symmetric int8"):
        check_for_tensorrt(check_onnx(graph, "graph", flavour="trt"), "graph")
    graph = conversions(np.int8)
    check_for_tensorrt(check_onnx(graph, "graph", flavour="trt"), "graph")


def test_a_frame_that_is_not_cast_at_once_is_not_parsed():
    """Why exported graphs cast frames before they join and shape them."""
    nodes = [
        helper.make_node("Concat", ["x", "x"], ["both"], "join", axis=1),
        helper.make_node("Cast", ["both"], ["y"], "cast", to=TensorProto.FLOAT),
    ]
    graph = helper.make_graph(
        nodes,
        "late",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, [1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 8])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)

    assert "UINT8" in RtxNetwork(model.SerializeToString()).errors[0]
