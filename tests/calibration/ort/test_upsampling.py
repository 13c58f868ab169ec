"""Transposed convolutions as convolutions: the same sums, against torch and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from onnx import helper

from dff_edge.calibration.ort.upsampling import rewrite_upsampling
from tests.calibration.graphs import compute, model_of, operators

RNG = np.random.default_rng(11)


def upsampling(size, kernels, *, bias=True, activation=None, crop=False, **changes):
    """A graph of one ConvTranspose, its kernel and bias."""
    (height, width), (kernels_in, kernels_out) = size, kernels
    attributes = {"kernel_shape": [4, 4], "strides": [2, 2], "pads": [1, 1, 1, 1], **changes}
    kernel = RNG.normal(size=(kernels_in, kernels_out, *attributes["kernel_shape"]))
    tensors = {"kernel": kernel.astype(np.float32)}
    inputs = ["maps", "kernel"]
    if bias:
        tensors["bias"] = RNG.normal(size=kernels_out).astype(np.float32)
        inputs.append("bias")
    nodes = [helper.make_node("ConvTranspose", inputs, ["up"], "up", **attributes)]
    last = "up"
    if activation:
        nodes.append(helper.make_node(activation[0], [last], ["active"], "act", **activation[1]))
        last = "active"
    nodes.append(helper.make_node("Neg", [last], ["out"], "neg"))
    stride, pads = attributes["strides"], attributes["pads"]
    out = [
        (n - 1) * stride[i] - 2 * pads[i] + attributes["kernel_shape"][i]
        for i, n in enumerate((height, width))
    ]
    model = model_of(
        nodes,
        {"maps": (np.float32, [1, kernels_in, height, width])},
        {"out": (np.float32, [1, kernels_out, *out])},
        tensors,
    )
    return model, tensors


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 1), (4, 6), (3, 5)])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("activation", [None, ("Relu", {}), ("LeakyRelu", {"alpha": 0.1})])
@pytest.mark.parametrize(("kernel", "padding"), [(4, 1), (2, 0)])
def test_the_same_as_torch(size, bias, activation, kernel, padding):
    shape = {"kernel_shape": [kernel] * 2, "pads": [padding] * 4}
    model, tensors = upsampling(size, (3, 5), bias=bias, activation=activation, **shape)
    maps = RNG.normal(size=(1, 3, *size)).astype(np.float32)

    found = rewrite_upsampling(model)

    expected = torch.nn.functional.conv_transpose2d(
        torch.from_numpy(maps),
        torch.from_numpy(tensors["kernel"]),
        torch.from_numpy(tensors["bias"]) if bias else None,
        stride=2,
        padding=padding,
    )
    if activation:
        expected = torch.nn.functional.leaky_relu(expected, activation[1].get("alpha", 0.0))
    assert "ConvTranspose" not in operators(found)
    np.testing.assert_allclose(compute(found, maps=maps)["out"], -expected, rtol=0, atol=1e-5)


def test_one_cell_gives_the_middle_of_the_kernel():
    model, tensors = upsampling((1, 1), (1, 1), bias=False)
    found = compute(rewrite_upsampling(model), maps=np.full((1, 1, 1, 1), 2, np.float32))

    np.testing.assert_array_equal(found["out"], -2 * tensors["kernel"][:, :, 1:3, 1:3])


def test_the_activation_follows_the_convolution_directly():
    model, _ = upsampling((4, 6), (3, 5), activation=("Relu", {}))
    assert operators(rewrite_upsampling(model))[:2] == ["Conv", "Relu"]


def test_values_that_are_read_twice_stay():
    model, _ = upsampling((4, 6), (3, 5), activation=("Relu", {}))
    model.graph.node.append(helper.make_node("Abs", ["up"], ["second"], "abs"))
    model.graph.output.append(helper.make_tensor_value_info("second", 1, [1, 5, 8, 12]))
    maps = RNG.normal(size=(1, 3, 4, 6)).astype(np.float32)

    found = rewrite_upsampling(model)

    expected = compute(model, maps=maps)
    for name, array in compute(found, maps=maps).items():
        np.testing.assert_allclose(array, expected[name], rtol=0, atol=1e-5)
    assert "ConvTranspose" not in operators(found)


@pytest.mark.parametrize(
    "changes",
    [
        {"kernel_shape": [2, 2]},
        {"kernel_shape": [3, 3]},
        {"pads": [0, 0, 0, 0]},
        {"strides": [1, 1]},
        {"strides": [2, 1]},
    ],
)
def test_others_stay(changes):
    model, _ = upsampling((4, 6), (3, 5), **changes)
    assert operators(rewrite_upsampling(model)) == operators(model)


def test_attributes_that_are_left_out_have_their_defaults():
    """Stride 1 and no padding, which a Slice behind may make as large as the stride of 2."""
    model, _ = upsampling((4, 6), (3, 5), strides=[1, 1], pads=[0, 0, 0, 0])
    (node,) = (node for node in model.graph.node if node.op_type == "ConvTranspose")
    del node.attribute[:]
    assert "ConvTranspose" in operators(rewrite_upsampling(model))


def test_a_value_that_is_an_output_too_stays():
    model, _ = upsampling((4, 6), (3, 5), activation=("Relu", {}))
    model.graph.output.append(helper.make_tensor_value_info("up", 1, [1, 5, 8, 12]))
    maps = RNG.normal(size=(1, 3, 4, 6)).astype(np.float32)
    expected = compute(model, maps=maps)
    for name, array in compute(rewrite_upsampling(model), maps=maps).items():
        np.testing.assert_allclose(array, expected[name], rtol=0, atol=1e-5)


def test_the_model_that_is_given_stays():
    model, _ = upsampling((4, 6), (3, 5))
    before = model.SerializeToString()
    rewrite_upsampling(model)
    assert model.SerializeToString() == before
