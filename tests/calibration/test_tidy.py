"""propagate.onnx in other precisions: the same warp, another task network."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from dff_edge.calibration.fp16 import to_fp16
from dff_edge.calibration.quantize import quantize_graph
from dff_edge.calibration.tidy import propagate_with
from dff_edge.runtime.contract import Levels, MapLevels
from dff_edge.runtime.warp import warp_features
from tests.calibration.test_quantize import outputs_of


@pytest.fixture(scope="module")
def inputs():
    rng = np.random.default_rng(8)
    return {
        "features": rng.uniform(0, 2, (1, 4, 6, 12)).astype(np.float32),
        "flow": rng.uniform(-2, 2, (1, 4, 6, 2)).astype(np.float32),
        "scale": rng.uniform(0.5, 1.5, (1, 4, 6, 12)).astype(np.float32),
    }


def test_it_is_the_warp_and_then_the_task_graph(bundle, inputs):
    task = to_fp16(bundle.graph_bytes("fp32", "task"))

    propagate = propagate_with(bundle.graph_bytes("fp32", "propagate"), task)

    warped = warp_features(inputs["features"], inputs["flow"], inputs["scale"])
    expected = outputs_of(task, {"features": warped})["scores"]
    found = outputs_of(propagate, inputs)["scores"]
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-3)


def test_of_bytes_it_is_the_native_warp_of_bytes_and_then_the_task_graph(bundle, samples, inputs):
    levels = MapLevels(features=Levels(2.5 / 255, 3), scale=Levels(1 / 128, 20))
    task = quantize_graph(bundle.graph_bytes("fp32", "task"), samples.task_inputs(bundle), levels)

    propagate = propagate_with(bundle.graph_bytes("fp32", "propagate"), task, levels)

    given = {
        "features": levels.features.bytes(inputs["features"]),
        "flow": inputs["flow"],
        "scale": levels.scale.bytes(inputs["scale"]),
    }
    warped = warp_features(*given.values(), levels=levels)
    expected = outputs_of(task, {"features": warped})["scores"]
    found = outputs_of(propagate, given)["scores"]
    # A value between two bytes may fall to either side.
    np.testing.assert_allclose(found, expected, rtol=0, atol=0.05)


def test_warp_function_is_not_touched(bundle):
    fp32 = bundle.graph_bytes("fp32", "propagate")
    task = to_fp16(bundle.graph_bytes("fp32", "task"))

    before, after = (onnx.load_from_string(g) for g in (fp32, propagate_with(fp32, task)))

    assert list(after.functions) == list(before.functions)
    assert after.graph.input == before.graph.input
    assert after.graph.output == before.graph.output
