"""A per-frame network from elsewhere: a convolution of single pixels, whose labels are known."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from benchmarks._rival import Preparation, Rival, quantise, with_labels
from dff_edge.data.clips import open_clips
from dff_edge.errors import ConfigError, EngineError, ShapeError
from dff_edge.evaluation.evaluate import evaluate
from dff_edge.opencv import cv2
from dff_edge.runtime.kernels.decode import decode_labels
from dff_edge.synthetic import CLASSES
from tests.bundle.bundles import make_bundle

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "rival.py"
SIZE = (32, 64)
CLIPS = "synthetic://street?split=val&clips=2&frames=3&height=32&width=64"
MEAN, STD = (100.0, 110.0, 120.0), (50.0, 60.0, 70.0)


def weights_of(classes):
    return np.random.default_rng(3).standard_normal((classes, 3)).astype(np.float32)


def network(classes, *, size=SIZE, stride=1, channels=3, outputs=("scores",), batch=1):
    """Return an ONNX file: scores of each pixel by its own colour."""
    weights = np.zeros((classes, channels, 1, 1), np.float32)
    weights[:, :3, 0, 0] = weights_of(classes)
    nodes = [
        helper.make_node("Conv", ["image", "weights"], [name], strides=[stride, stride])
        for name in outputs
    ]
    shapes = (batch, channels, *size), (batch, classes, *(side // stride for side in size))
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shapes[0])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shapes[1]) for name in outputs],
        [numpy_helper.from_array(weights, "weights")],
    )
    imports = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8).SerializeToString()


def scores_of(image, classes, order="bgr"):
    """Return what the network computes, ``(H, W, classes)``."""
    channels = image if order == "bgr" else image[:, :, ::-1]
    return (((channels - np.float32(MEAN)) / np.float32(STD)) @ weights_of(classes).T).astype(
        np.float32
    )


def mean_iou_by_hand(truths, answers, classes):
    truths, answers = np.stack(truths), np.stack(answers)
    ious = []
    for label in range(classes):
        true, found = truths == label, answers == label
        ious += [(true & found).sum() / (true | found).sum()] if (true | found).any() else []
    return sum(ious) / len(ious)


@pytest.mark.parametrize("order", ["bgr", "rgb"])
def test_the_accuracy_is_that_of_the_labels_by_hand(order):
    clips = open_clips(CLIPS)
    channels = (*range(1, len(CLASSES)), len(CLASSES) + 1)  # of two outputs more; one moved
    graph = with_labels(network(len(CLASSES) + 2), SIZE, CLASSES, channels)

    with Rival(graph, Preparation(MEAN, STD, order), threads=1) as rival:
        found = evaluate(rival, clips, CLASSES, 1).at_interval(1)

    frames = [(clip, index) for clip in clips for index in range(len(clip))]
    truths = [clip.labels(index) for clip, index in frames]
    answers = [
        scores_of(clip.image(index), len(CLASSES) + 2, order)[..., list(channels)].argmax(-1)
        for clip, index in frames
    ]
    assert found == pytest.approx(mean_iou_by_hand(truths, answers, len(CLASSES)), abs=1e-4)


def test_small_scores_are_interpolated_as_those_of_our_models():
    graph = with_labels(network(4, stride=4), SIZE, "abcd")
    image = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)

    with Rival(graph, Preparation(MEAN, STD), threads=1) as rival:
        labels = rival.extract(image)

    small = np.ascontiguousarray(scores_of(image, 4)[::4, ::4])
    assert (labels == decode_labels(small, SIZE)).mean() > 0.999


@pytest.mark.parametrize("operators", [None, ("Conv",)])
def test_int8_is_that_of_onnx_runtime_and_close(operators):
    graph, preparation = network(4), Preparation(MEAN, STD)
    clip = open_clips(CLIPS)[0]
    images = [clip.image(index) for index in range(3)]

    quantised = quantise(graph, images, preparation, operators)

    kinds = {node.op_type for node in onnx.load_from_string(quantised).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds
    with Rival(with_labels(quantised, SIZE, "abcd"), preparation, threads=1) as rival:
        answers = np.stack([rival.extract(image) for image in images])
    expected = np.stack([scores_of(image, 4).argmax(-1) for image in images])
    assert 0.9 < (answers == expected).mean() < 1


def test_operators_that_are_not_there_are_refused():
    with pytest.raises(ConfigError, match=r"--operators is conv, expected .* the rival's: Conv\."):
        quantise(network(4), [], Preparation(MEAN, STD), ("conv",))


@pytest.mark.parametrize(
    ("graph", "channels", "error", "message"),
    [
        (network(5), (), ConfigError, "scores of 5 classes, the data 4: a, b, c, d. Name"),
        (network(5), (0, 1), ConfigError, "--channels is 0,1, expected 4 numbers from 0 to 4"),
        (network(5), (0, 1, 2, 5), ConfigError, "is 0,1,2,5, expected 4 numbers from 0 to 4"),
        (network(4, outputs=("x", "y")), (), ShapeError, "1 inputs and 2 outputs, expected one"),
        (network(4, channels=6), (), ShapeError, r"\(1, 6, 32, 64\), expected float32 \(1, 3, H"),
        (network(4, batch=2), (), ShapeError, r"'image' is float32 \(2, 3, 32, 64\), expected"),
        (network(4, batch="n"), (), EngineError, "expected a plain tensor of static shape"),
    ],
    ids=["classes", "few channels", "no channel", "outputs", "picture", "batch", "sizes"],
)
def test_other_networks_are_refused(graph, channels, error, message):
    with pytest.raises(error, match=message):
        with_labels(graph, SIZE, "abcd", channels)


def run_script(folder, data, *options):
    values = "--mean {} {} {} --std {} {} {}".format(*MEAN, *STD).split()
    return subprocess.run(
        [sys.executable, SCRIPT, "rival.onnx", "ours", "--source", data, "--calibration", data]
        + [*values, "--order", "bgr", *options],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_script_tells_in_a_line_what_is_wrong(tmp_path):
    done = run_script(tmp_path, tmp_path)

    assert done.returncode == 1
    assert done.stderr.startswith("Error: rival.onnx cannot be read: No such file or directory; ex")
    assert done.stderr.count("\n") == 1


def test_the_script_measures_a_network_that_is_right_beside_a_bundle(tmp_path):
    data = tmp_path / "data"
    for name in ("images", "labels"):
        (data / name).mkdir(parents=True)
    image = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
    for index in range(6):
        moved = np.roll(image, index, axis=1)
        cv2.imwrite(str(data / "images" / f"{index}.png"), moved)
        cv2.imwrite(str(data / "labels" / f"{index}.png"), scores_of(moved, 3).argmax(-1))
    (tmp_path / "rival.onnx").write_bytes(network(3))
    make_bundle(tmp_path / "ours", precisions=("fp32", "int8"))

    turns = ("--interval", "2", "--frames", "4", "--repetitions", "1", "--threads", "1")
    done = run_script(tmp_path, data, *turns, "--json", "figures.json")

    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "figures.json").read_text())["figures"]
    rows = ("rival_fp32", "rival_int8", "ours_l1", "ours_l2")
    assert set(figures) == {f"{row}_{figure}" for row in rows for figure in ("miou", "ms")}
    assert figures["rival_fp32_miou"] == 100
    assert 90 < figures["rival_int8_miou"] < 100
    assert all(figures[f"{row}_ms"] > 0 for row in rows)
