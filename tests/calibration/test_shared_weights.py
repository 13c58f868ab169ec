"""A layer that is used twice has weights of its own for each use, on every CPU."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from dff_edge.bundle.levels import Levels, MapLevels
from dff_edge.calibration.ort.int8 import quantize_graph
from dff_edge.calibration.trt.int8 import quantize_symmetric
from dff_edge.runtime.engines.onnxruntime import OrtEngine

CHANNELS = 16
LEVELS = MapLevels(features=Levels(0.125, 0), scale=Levels(1 / 128, 0))


def twice(weights: np.ndarray) -> onnx.ModelProto:
    """Return a graph that multiplies by the same weights, takes what is positive, and again."""
    shape = [1, CHANNELS, 1, 4]
    return helper.make_model(
        helper.make_graph(
            [
                helper.make_node("Conv", ["x", "weights"], ["once"], "first"),
                helper.make_node("Relu", ["once"], ["positive"], "relu"),
                helper.make_node("Conv", ["positive", "weights"], ["y"], "second"),
            ],
            "twice",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
            [numpy_helper.from_array(weights, "weights")],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=9,
    )


@pytest.mark.parametrize("quantize", [quantize_graph, quantize_symmetric])
def test_a_layer_that_is_used_twice_gives_its_product_twice(
    quantize: Callable[..., bytes],
) -> None:
    rng = np.random.default_rng(4)
    weights = rng.standard_normal((CHANNELS, CHANNELS, 1, 1)).astype(np.float32)
    x = rng.standard_normal((1, CHANNELS, 1, 4)).astype(np.float32)

    graph = quantize(twice(weights).SerializeToString(), [{"x": x}], LEVELS)

    y = {"y": np.zeros_like(x)}
    with OrtEngine(graph, name="twice") as engine:
        engine.run({"x": x}, y)
    product = weights[:, :, 0, 0]
    expected = product @ np.maximum(product @ x[0, :, 0], 0)
    np.testing.assert_allclose(y["y"][0, :, 0], expected, atol=0.02 * np.abs(expected).max())


@pytest.mark.parametrize("quantize", [quantize_graph, quantize_symmetric])
def test_each_layer_reads_weights_of_its_own(quantize: Callable[..., bytes]) -> None:
    weights = np.full((CHANNELS, CHANNELS, 1, 1), 0.5, np.float32)
    x = np.ones((1, CHANNELS, 1, 4), np.float32)

    model = onnx.load_from_string(quantize(twice(weights).SerializeToString(), [{"x": x}], LEVELS))

    onnx.checker.check_model(model, full_check=True)
    makers = {node.output[0]: node for node in model.graph.node}
    read = [makers[n.input[1]].input[0] for n in model.graph.node if n.op_type == "Conv"]
    assert len(set(read)) == len(read) == 2
