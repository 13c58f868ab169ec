"""Levels of bytes, and graphs whose borders are bytes."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from dff_edge.bundle.graphs.check import read_graph_bytes
from dff_edge.bundle.levels import MIN_STEP, Levels, MapLevels
from dff_edge.calibration.ort.byte_maps import (
    byte_levels,
    cut_to_bytes,
    find_map_ranges,
    levels_over,
)
from dff_edge.calibration.ort.int8 import quantize_graph
from dff_edge.errors import CalibrationError
from tests.calibration.graphs import compute, model_of, operators
from tests.calibration.ort.test_int8 import MIN_CORRELATION, outputs_of

# ONNX Runtime has subnormal numbers taken for zero, in whatever thread made a session.
NORMAL = {"allow_subnormal": False, "width": 32}
FINITE = st.floats(-1e4, 1e4, **NORMAL)


@given(FINITE, FINITE)
@example(0.0, 6.170926571954529e-33)  # a step that Levels refuses
@example(0.0, 255e-30)
def test_levels_cover_the_range_and_hit_zero(a, b):
    low, high = min(a, b, 0.0), max(a, b, 0.0)
    levels = levels_over(min(a, b), max(a, b))

    assert 0 <= levels.zero <= 255
    assert levels.dequantize(np.array([levels.zero], np.uint8)) == 0
    slack = 1e-5 * (high - low) + 0.51 * levels.step
    assert levels.range[0] <= low + slack
    assert levels.range[1] >= high - slack
    assert levels.step <= (high - low) / 255 * (1 + 1e-6) or high - low < 2 * 255 * MIN_STEP


@given(st.floats(-50, 1, **NORMAL), st.floats(1, 50, **NORMAL))
def test_levels_that_hit_one_do_and_cover_the_range(low, high):
    levels = levels_over(low, high, hit_one=True)

    one = levels.quantize(np.array([1.0], np.float32))
    assert levels.dequantize(one) == pytest.approx(1.0, abs=1e-6) or levels.step > 1
    assert levels.range[0] <= min(low, 0) + levels.step
    assert levels.range[1] >= high - 0.51 * levels.step


def test_levels_by_hand():
    assert levels_over(0.0, 255.0) == Levels(1.0, 0)
    assert levels_over(-127.5, 127.5) == Levels(1.0, 128)
    assert levels_over(0.0, 0.0) == Levels(1.0, 0)
    assert levels_over(0.2, 2.0, hit_one=True) == Levels(float(np.float32(1 / 127)), 0)


def test_levels_of_samples_cover_what_the_networks_give(bundle, samples):
    levels = byte_levels(find_map_ranges(bundle, samples))
    features = [arrays["features"] for arrays in samples.task_inputs(bundle)]

    assert levels.features.zero == 0  # behind a ReLU
    assert levels.features.range[1] == pytest.approx(max(a.max() for a in features), rel=1e-5)
    one = levels.scale.quantize(np.ones(1, np.float32))
    assert levels.scale.dequantize(one) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("place", [0, -1])
def test_features_that_are_not_finite_are_refused(bundle, place):
    class Broken:
        """Samples whose second key frame has one number too few."""

        def task_inputs(self, _):
            for value in (1.0, np.nan):
                features = np.ones((1, 2, 3, 4), np.float32)
                features.flat[place] = value
                yield {"features": features}

    with pytest.raises(CalibrationError, match="expected finite ones"):
        find_map_ranges(bundle, Broken())


def quantised(levels):
    """A graph that negates: Q, DQ, Neg, Q, DQ, with moves at its borders."""
    step, zero = np.float32(levels.step), np.uint8(levels.zero)
    nodes = [
        helper.make_node("Reshape", ["features", "shape"], ["flat"], "flat"),
        helper.make_node("QuantizeLinear", ["flat", "s", "z"], ["q"], "q"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["dq"], "dq"),
        helper.make_node("Neg", ["dq"], ["minus"], "neg"),
        helper.make_node("QuantizeLinear", ["minus", "s2", "z2"], ["q2"], "q2"),
        helper.make_node("DequantizeLinear", ["q2", "s2", "z2"], ["scale"], "dq2"),
    ]
    tensors = {"s": step, "z": zero, "s2": step, "z2": zero, "shape": np.array([6], np.int64)}
    return model_of(
        nodes,
        {"features": (np.float32, [2, 3])},
        {"scale": (np.float32, [6])},
        {name: np.asarray(array) for name, array in tensors.items()},
    )


def test_q_and_dq_at_the_borders_go_away_and_types_follow():
    levels = Levels(0.5, 100)
    model = quantised(levels)
    values = np.array([[-3, 0, 1], [2.5, 10, -50]], np.float32)
    expected = compute(model, features=values)["scale"]

    cut_to_bytes(model, {"features": levels, "scale": levels})

    assert operators(model) == ["Reshape", "DequantizeLinear", "Neg", "QuantizeLinear"]
    kinds = [v.type.tensor_type.elem_type for v in (*model.graph.input, *model.graph.output)]
    assert kinds == [TensorProto.UINT8, TensorProto.UINT8]
    found = compute(model, features=levels.quantize(values))["scale"]
    np.testing.assert_array_equal(levels.dequantize(found), expected)


@pytest.mark.parametrize("zero", [0, 66])
def test_a_relu_at_the_end_holds_whatever_byte_means_zero(bundle, samples, zero):
    """Propagated features may be negative where the scale field is, and share their levels."""
    high = byte_levels(find_map_ranges(bundle, samples)).features.range[1]
    levels = MapLevels(Levels(high / (255 - zero), zero), Levels(1 / 64, 0))
    fp32 = bundle.graph_bytes("fp32", "feature")
    graph = quantize_graph(fp32, samples.feature_inputs(), levels)
    inputs = next(samples.feature_inputs())

    expected = outputs_of(fp32, inputs)["features"]
    found = levels.features.dequantize(outputs_of(graph, inputs)["features"])

    assert (expected == 0).mean() > 0.1, "the test needs a ReLU that does something"
    assert found.min() == 0
    assert np.corrcoef(expected.ravel(), found.ravel())[0, 1] > MIN_CORRELATION
    read_graph_bytes(graph, "feature", [("ort", "feature")])  # nothing is refused
    # ONNX Runtime up to 1.23, the last for Python 3.10, has Clip for bytes and not Max.
    assert "Max" not in {node.op_type for node in onnx.load_from_string(graph).graph.node}


def test_other_levels_than_agreed_are_refused():
    model = quantised(Levels(0.5, 100))
    with pytest.raises(CalibrationError, match="'features' was quantised with .*expected"):
        cut_to_bytes(model, {"features": Levels(0.5, 101)})


def test_a_border_that_stayed_float_is_refused():
    model = model_of(
        [helper.make_node("Neg", ["features"], ["scale"], "neg")],
        {"features": (np.float32, [2])},
        {"scale": (np.float32, [2])},
    )
    with pytest.raises(CalibrationError, match="'features' meets Neg at the border"):
        cut_to_bytes(model, {"features": Levels(0.5, 0)})
