"""The node dff::Warp in ONNX Runtime against the paper's double sum and the native kernel."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

from dff_edge.export.warp_function import warp_function
from dff_edge.runtime.engines.onnxruntime import OrtEngine
from dff_edge.runtime.kernels.warp import warp_features

# float32: GridSample takes coordinates as shares of the map and turns them back into cells.
ATOL = 1e-5
SIZES = [(5, 7), (1, 6), (6, 1), (1, 1), (16, 32)]


@pytest.fixture
def rng():
    return np.random.default_rng(11)


def run_node(features, flow, scale, opset=17):
    inputs = {"features": features, "flow": flow, "scale": scale}
    graph = helper.make_graph(
        [helper.make_node("Warp", list(inputs), ["warped"], domain="dff")],
        "warp",
        [
            helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, a.shape)
            for n, a in inputs.items()
        ],
        [helper.make_tensor_value_info("warped", onnx.TensorProto.FLOAT, features.shape)],
    )
    model = helper.make_model(
        graph,
        functions=[warp_function(features.shape[1:3], opset)],
        opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid("dff", 1)],
        ir_version=8,
    )
    onnx.checker.check_model(model, full_check=True)
    out = np.empty_like(features)
    with OrtEngine(model.SerializeToString(), name="warp", threads=1) as engine:
        engine.run(inputs, {"warped": out})
    return out


def warp_by_definition(features, flow, scale):
    """Eq. (1)-(3), slow and literal: sum over every cell q with weight G(q, p + M(p))."""
    _, height, width, channels = features.shape
    out = np.zeros((height, width, channels))
    for y, x in np.ndindex(height, width):
        dx, dy = flow[0, y, x]
        if np.isfinite(dx) and np.isfinite(dy):
            weight_x = np.maximum(0, 1 - abs(np.arange(width) - (x + float(dx))))
            weight_y = np.maximum(0, 1 - abs(np.arange(height) - (y + float(dy))))
            out[y, x] = np.einsum("hwc,h,w->c", features[0], weight_y, weight_x)
    return (out * scale[0])[None]


def random_inputs(rng, size, max_flow):
    features = rng.standard_normal((1, *size, 3)).astype(np.float32)
    flow = rng.uniform(-max_flow, max_flow, (1, *size, 2)).astype(np.float32)
    scale = rng.uniform(0.5, 1.5, (1, *size, 3)).astype(np.float32)
    return features, flow, scale


@pytest.mark.parametrize("max_flow", [0.0, 0.9, 3.0, 50.0], ids=lambda v: f"flow{v}")
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_matches_the_definition_and_the_native_kernel(rng, size, max_flow):
    inputs = random_inputs(rng, size, max_flow)

    warped = run_node(*inputs)

    np.testing.assert_allclose(warped, warp_by_definition(*inputs), rtol=0, atol=ATOL)
    np.testing.assert_allclose(warped, warp_features(*inputs), rtol=0, atol=ATOL)


@pytest.mark.parametrize("opset", [17, 18, 19])
def test_every_operator_set_gives_the_same(rng, opset):
    inputs = random_inputs(rng, (5, 7), 3.0)

    np.testing.assert_array_equal(run_node(*inputs, opset=opset), run_node(*inputs))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30, -1e30, 3e9])
@pytest.mark.parametrize("axis", [0, 1], ids=["dx", "dy"])
def test_flow_that_is_no_number_or_leads_far_away_gives_zero_there_only(rng, bad, axis):
    features, flow, scale = random_inputs(rng, (5, 7), 0.5)
    expected = run_node(features, flow, scale)
    flow[0, 2, 3, axis] = bad
    expected[0, 2, 3] = 0

    np.testing.assert_array_equal(run_node(features, flow, scale), expected)
