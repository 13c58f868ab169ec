"""The first convolution over blocks of pixels: the same sums as over pixels."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from dff_edge.calibration.ort.stem import rewrite_stem
from tests.calibration.graphs import compute, model_of, operators

RNG = np.random.default_rng(12)


def stem(frames, *, size=(8, 24), kernel=7, stride=2, padding=3, mean=(104, 117, 123), **extra):
    """A graph that begins as the exported ones do."""
    height, width = size
    channels = 3 * len(frames)
    row = np.tile(np.tile(np.array(mean, np.float32), len(frames)), width)
    nodes = [
        helper.make_node("Cast", [name], [f"{name}_float"], name, to=onnx.TensorProto.FLOAT)
        for name in frames
    ]
    joined = nodes[0].output[0]
    if len(frames) > 1:
        floats = [node.output[0] for node in nodes]
        nodes.append(helper.make_node("Concat", floats, ["joined"], "joined", axis=3))
        joined = "joined"
    attributes = {
        "kernel_shape": [kernel] * 2,
        "strides": [stride] * 2,
        "pads": [padding] * 4,
        **extra,
    }
    nodes += [
        helper.make_node("Reshape", [joined, "rows"], ["floats"], "floats"),
        helper.make_node("Sub", ["floats", "mean"], ["centred"], "centred"),
        helper.make_node("Reshape", ["centred", "pixels"], ["image"], "image"),
        helper.make_node("Transpose", ["image"], ["planes"], "planes", perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "kernel", "bias"], ["maps"], "conv1", **attributes),
        helper.make_node("Relu", ["maps"], ["out"], "relu"),
    ]
    tensors = {
        "rows": np.array([1, height, width * channels], np.int64),
        "pixels": np.array([1, height, width, channels], np.int64),
        "mean": row,
        "kernel": RNG.normal(size=(5, channels, kernel, kernel)).astype(np.float32),
        "bias": RNG.normal(size=5).astype(np.float32),
    }
    reach = (kernel - 1) * extra.get("dilations", [1])[0] + 1
    cells = [(n + 2 * padding - reach) // stride + 1 for n in size]
    return model_of(
        nodes,
        {name: (np.uint8, [1, height, width, 3]) for name in frames},
        {"out": (np.float32, [1, 5, *cells])},
        tensors,
    )


@pytest.mark.parametrize("frames", [["frame"], ["frame_half", "key_half"]])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [(7, 2, 3), (7, 4, 3), (3, 2, 1), (5, 2, 2), (5, 3, 1)]
)
def test_the_same_sums(frames, kernel, stride, padding):
    model = stem(frames, kernel=kernel, stride=stride, padding=padding)
    images = {name: RNG.integers(0, 256, (1, 8, 24, 3), dtype=np.uint8) for name in frames}

    found = rewrite_stem(model)

    expected, out = compute(model, **images)["out"], compute(found, **images)["out"]
    assert "Sub" not in operators(found)
    np.testing.assert_allclose(out, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_each_frame_and_column_has_its_own_weights():
    """One pixel of the second frame moves just the cells that saw it before."""
    model = stem(["frame_half", "key_half"], stride=4, mean=(0, 0, 0))
    blank = {n: np.zeros((1, 8, 24, 3), np.uint8) for n in ("frame_half", "key_half")}
    found = rewrite_stem(model)
    for column in range(24):
        images = {name: image.copy() for name, image in blank.items()}
        images["key_half"][0, 3, column, 1] = 200
        expected, out = compute(model, **images)["out"], compute(found, **images)["out"]
        np.testing.assert_allclose(out, expected, rtol=0, atol=1e-3)


def test_no_transpose_of_bytes_is_added_and_rows_are_joined_in_blocks():
    found = rewrite_stem(stem(["frame_half", "key_half"], stride=4))
    assert operators(found).count("Transpose") == 1
    (concat,) = (node for node in found.graph.node if node.op_type == "Concat")
    shapes = {
        v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in found.graph.value_info
    }
    assert shapes[concat.output[0]] == [1, 8, 6, 24]  # 4 pixels of 3 colours of 2 frames a cell


@pytest.mark.parametrize(
    "changes",
    [
        {"stride": 1},
        {"size": (8, 25)},  # columns that are no whole cells
        {"dilations": [2, 2], "padding": 6},
        {"kernel": 3, "padding": 0},  # one column less than cells
    ],
)
def test_others_stay(changes):
    model = stem(["frame"], **changes)
    assert operators(rewrite_stem(model)) == operators(model)


def test_means_that_differ_by_column_stay():
    model = stem(["frame"])
    (mean,) = (t for t in model.graph.initializer if t.name == "mean")
    mean.CopyFrom(numpy_helper.from_array(np.arange(72, dtype=np.float32), "mean"))
    assert operators(rewrite_stem(model)) == operators(model)


def test_frames_side_by_side_stay():
    """Joined along the columns, not pixel by pixel."""
    model = stem(["frame_half", "key_half"])
    (concat,) = (node for node in model.graph.node if node.op_type == "Concat")
    concat.attribute[0].i = 2
    del model.graph.value_info[:]
    assert operators(rewrite_stem(model)) == operators(model)


def test_a_value_of_the_chain_that_is_an_output_stays():
    model = stem(["frame"])
    model.graph.output.append(helper.make_tensor_value_info("centred", 1, [1, 8, 72]))
    assert operators(rewrite_stem(model)) == operators(model)


def test_a_graph_that_begins_otherwise_stays():
    model = stem(["frame"])
    index = next(i for i, node in enumerate(model.graph.node) if node.op_type == "Sub")
    model.graph.node[index].op_type = "Mul"
    assert operators(rewrite_stem(model)) == operators(model)
