"""A detector's graphs in TensorRT's parser; no GPU is needed."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks._rtx import RtxNetwork, load_rtx
from dff_edge.bundle.levels import INT8, Levels, MapLevels
from dff_edge.calibration.trt.int8 import quantize_symmetric
from dff_edge.onnx_graphs.detection import MAPS
from tests.export.checkpoints import CHANNELS, FRAME_SIZE, tiny_bundle

try:
    load_rtx()
except ImportError as error:
    pytest.skip(
        f"TensorRT for RTX is not installed ({error}): pip install tensorrt-rtx",
        allow_module_level=True,
    )


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return tiny_bundle(tmp_path_factory, "half", task="detection")


@pytest.mark.parametrize("graph", ["task", "propagate_portable"])
def test_graphs_that_end_with_the_maps_build(bundle, graph):
    network = RtxNetwork(bundle.graph_bytes("fp32", graph, "trt"))

    assert network.errors == ()
    assert {name: network.types()[name] for name in MAPS} == dict.fromkeys(MAPS, "FLOAT")
    assert network.build(["SM89"]) > 0


def test_int8_maps_build_and_leave_as_floats(bundle):
    cells = (1, FRAME_SIZE[0] // 16, FRAME_SIZE[1] // 16, CHANNELS)
    sample = {"features": np.random.default_rng(0).standard_normal(cells).astype(np.float32)}
    levels = MapLevels(Levels(0.03, 0, INT8), Levels(1 / 64, 0, INT8))
    network = RtxNetwork(
        quantize_symmetric(bundle.graph_bytes("fp32", "task", "trt"), [sample], levels)
    )

    assert network.errors == ()
    assert network.types() == {"features": "INT8", **dict.fromkeys(MAPS, "FLOAT")}
    weights = [network.sources(layer)[1].type.name for layer in network.layers("CONVOLUTION")]
    assert weights == ["DEQUANTIZE"] * 4
    assert network.build(["SM89"]) > 0


def test_the_whole_graph_does_not_parse(bundle):
    """Why there are others: when this fails, TensorRT may take the whole one."""
    network = RtxNetwork(bundle.graph_bytes("fp32", "task"))

    assert any("ROIAlign" in error for error in network.errors)
