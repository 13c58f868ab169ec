"""The product of the scale field as a convolution."""

from __future__ import annotations

import numpy as np
from onnx import helper

from dff_edge.calibration.ort.heads import rewrite_product
from tests.calibration.graphs import compute, model_of, operators

RNG = np.random.default_rng(13)


def product(last=("Add", {})):
    nodes = [
        helper.make_node("Transpose", ["maps"], ["rows"], "rows", perm=[0, 2, 3, 1]),
        helper.make_node("MatMul", ["rows", "weight"], ["sums"], "sums"),
        helper.make_node(last[0], ["sums", "bias"], ["scale"], "add", **last[1]),
    ]
    tensors = {
        "weight": RNG.normal(size=(6, 10)).astype(np.float32),
        "bias": RNG.normal(size=10).astype(np.float32),
    }
    return model_of(
        nodes,
        {"maps": (np.float32, [1, 6, 3, 4])},
        {"scale": (np.float32, [1, 3, 4, 10])},
        tensors,
    )


def test_the_same_values():
    model = product()
    maps = RNG.normal(size=(1, 6, 3, 4)).astype(np.float32)

    found = rewrite_product(model, "scale")

    assert "MatMul" not in operators(found)
    assert operators(found) == ["Conv", "Transpose"]  # the two before the product met and went
    expected = np.einsum("ncyx,ck->nyxk", maps, _stored(model, "weight")) + _stored(model, "bias")
    np.testing.assert_allclose(compute(found, maps=maps)["scale"], expected, rtol=0, atol=1e-5)


def test_rows_that_are_an_input_are_transposed():
    model = product()
    del model.graph.node[0], model.graph.input[:], model.graph.value_info[:]
    model.graph.input.append(helper.make_tensor_value_info("rows", 1, [1, 3, 4, 6]))
    rows = RNG.normal(size=(1, 3, 4, 6)).astype(np.float32)

    found = rewrite_product(model, "scale")

    assert operators(found) == ["Transpose", "Conv", "Transpose"]
    expected = rows @ _stored(model, "weight") + _stored(model, "bias")
    np.testing.assert_allclose(compute(found, rows=rows)["scale"], expected, rtol=0, atol=1e-5)


def test_rows_that_others_read_stay():
    model = product()
    model.graph.node.append(helper.make_node("Neg", ["rows"], ["minus"], "neg"))
    model.graph.output.append(helper.make_tensor_value_info("minus", 1, [1, 3, 4, 6]))

    found = rewrite_product(model, "scale")

    assert sorted(operators(found)) == ["Conv", "Neg", "Transpose", "Transpose", "Transpose"]


def test_what_is_made_otherwise_stays():
    model = product(("Mul", {}))
    assert rewrite_product(model, "scale") is model
    assert rewrite_product(model, "sums_of_another_graph") is model


def test_a_bias_of_other_shape_or_a_product_that_is_read_twice_stays():
    wide = product()
    (bias,) = (t for t in wide.graph.initializer if t.name == "bias")
    bias.dims[:] = [1, 1, 1, 10]
    assert rewrite_product(wide, "scale") is wide
    twice = product()
    twice.graph.node.append(helper.make_node("Neg", ["sums"], ["minus"], "neg"))
    twice.graph.output.append(helper.make_tensor_value_info("minus", 1, [1, 3, 4, 10]))
    assert rewrite_product(twice, "scale") is twice


def _stored(model, name):
    (tensor,) = (t for t in model.graph.initializer if t.name == name)
    return np.frombuffer(tensor.raw_data, np.float32).reshape(tensor.dims)
