"""propagate.onnx in other precisions: the same warp, another task network."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from dff_edge.calibration.fp16 import to_fp16
from dff_edge.calibration.quantize import quantize_graph
from dff_edge.calibration.tidy import propagate_with
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


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_it_is_the_warp_and_then_the_task_graph(bundle, samples, inputs, precision):
    fp32 = bundle.graph_bytes("fp32", "task")
    if precision == "fp16":
        task = to_fp16(fp32)
    else:
        task = quantize_graph(fp32, samples.task_inputs(bundle))

    propagate = propagate_with(bundle.graph_bytes("fp32", "propagate"), task)

    warped = warp_features(inputs["features"], inputs["flow"], inputs["scale"])
    expected = outputs_of(task, {"features": warped})["scores"]
    found = outputs_of(propagate, inputs)["scores"]
    # A cell at the edge between two int8 steps may fall to either side.
    step = 0.05 if precision == "int8" else 2e-3
    np.testing.assert_allclose(found, expected, rtol=0, atol=step)


def test_warp_function_is_not_touched(bundle):
    fp32 = bundle.graph_bytes("fp32", "propagate")
    task = to_fp16(bundle.graph_bytes("fp32", "task"))

    before, after = (onnx.load_from_string(g) for g in (fp32, propagate_with(fp32, task)))

    assert list(after.functions) == list(before.functions)
    assert after.graph.input == before.graph.input
    assert after.graph.output == before.graph.output
