"""Pairs of Q and DQ: what they compute, by the definition of QuantizeLinear."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from dff_edge.calibration.sampling.pairs import Pairs
from tests.calibration.graphs import compute, model_of, operators

RNG = np.random.default_rng(21)


def rounded(values, step):
    """Return values after Q and DQ: the nearest of -128..127 steps, ties to even."""
    return np.clip(np.rint(values / step), -128, 127) * step


def convolution(operator="Conv", count=1, channels=(3, 4)):
    """Convolutions of one weight, added up."""
    first, last = channels
    nodes = [
        helper.make_node(operator, ["x", "weight"], [f"y{i}"], f"conv{i}") for i in range(count)
    ]
    if count == 2:
        nodes.append(helper.make_node("Add", ["y0", "y1"], ["y"], "add"))
    else:
        nodes[0].output[0] = "y"
    shape = (last, first, 1, 1) if operator == "Conv" else (first, last, 1, 1)
    weight = RNG.normal(size=shape).astype(np.float32)
    return model_of(
        nodes,
        {"x": (np.float32, [1, first, 2, 2])},
        {"y": (np.float32, [1, last, 2, 2])},
        {"weight": weight},
    )


@pytest.mark.parametrize(("operator", "axis"), [("Conv", 0), ("ConvTranspose", None)])
def test_weights_have_a_step_for_each_channel_or_one_in_all(operator, axis):
    model = convolution(operator)
    weight = numpy_helper.to_array(model.graph.initializer[0])[..., 0, 0]
    matrix = weight if operator == "Conv" else weight.T  # (C_out, C_in)
    largest = np.abs(matrix).max(axis=1 if axis == 0 else None, keepdims=True)
    steps = largest / 127
    x = RNG.normal(size=(1, 3, 2, 2)).astype(np.float32)
    pairs = Pairs(model)

    pairs.store_weight(model.graph.node[0], axis=axis)
    found = pairs.finish()

    expected = np.einsum("oc,ncyx->noyx", np.rint(matrix / steps) * steps, x)
    np.testing.assert_allclose(compute(found, x=x)["y"], expected, rtol=0, atol=1e-5)
    kinds = {t.name: t.data_type for t in found.graph.initializer}
    assert sorted(kinds.values()) == [TensorProto.FLOAT, TensorProto.INT8, TensorProto.INT8]
    assert "weight" not in kinds
    (step,) = (t for t in found.graph.initializer if t.data_type == TensorProto.FLOAT)
    assert list(step.dims) == ([4] if axis == 0 else [])


def test_a_channel_of_zeros_stays_zero():
    model = convolution()
    weight = numpy_helper.to_array(model.graph.initializer[0]).copy()
    weight[1] = 0
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(weight, "weight"))
    pairs = Pairs(model)
    pairs.store_weight(model.graph.node[0], axis=0)

    y = compute(pairs.finish(), x=np.ones((1, 3, 2, 2), np.float32))["y"]

    assert (y[0, 1] == 0).all()
    assert (y[0, 0] != 0).all()


def test_a_shared_weight_is_stored_once():
    model = convolution(count=2)
    pairs = Pairs(model)
    for node in list(model.graph.node)[:2]:
        pairs.store_weight(node, axis=0)

    found = pairs.finish()

    assert operators(found) == ["DequantizeLinear", "Conv", "Conv", "Add"]
    onnx.checker.check_model(found, full_check=True)


def test_a_pair_rounds_for_the_readers_that_are_named():
    nodes = [
        helper.make_node("Neg", ["x"], ["minus"], "minus"),
        helper.make_node("Abs", ["minus"], ["a"], "a"),
        helper.make_node("Relu", ["minus"], ["b"], "b"),
    ]
    spec = (np.float32, [6])
    model = model_of(nodes, {"x": spec}, {"a": spec, "b": spec})
    pairs = Pairs(model)
    pairs.add("minus", 0.25, [model.graph.node[1]])
    x = np.array([-40, -0.3, 0.1, 0.125, 0.375, 100], np.float32)

    found = compute(pairs.finish(), x=x)

    np.testing.assert_array_equal(found["a"], np.abs(rounded(-x, 0.25)))
    np.testing.assert_array_equal(found["b"], np.maximum(-x, 0))


def test_borders_become_int8_and_pairs_stand_inside_them():
    spec = (np.float32, [5])
    nodes = [helper.make_node("Neg", ["features"], ["scale"], "minus")]
    model = model_of(nodes, {"features": spec}, {"scale": spec})
    pairs = Pairs(model)
    pairs.add("features", 0.5, [model.graph.node[0]])
    pairs.cut("features", 0.5)
    pairs.cut("scale", 0.25)
    pairs.cut("flow", 1.0)  # not in this graph

    found = pairs.finish()

    onnx.checker.check_model(found, full_check=True)
    assert operators(found) == [
        "DequantizeLinear", "QuantizeLinear", "DequantizeLinear", "Neg", "QuantizeLinear",
    ]  # fmt: skip
    bytes_ = np.array([-128, -3, 0, 2, 127], np.int8)
    out = compute(found, features=bytes_)["scale"]
    assert out.dtype == np.int8
    assert out.tolist() == [127, 6, 0, -4, -128]
