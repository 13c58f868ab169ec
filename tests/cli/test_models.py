"""dff-edge export, calibrate, evaluate and inspect, as their users type them."""

import json
import math
import re
from pathlib import Path

import pytest
from safetensors import safe_open

from dff_edge.synthetic import StreetScene
from tests.data.datasets.layouts import write

CLIPS = "synthetic://street?split=val&clips=2&frames=12&height=64&width=128"
# Of BatchNorm, and of kernels that are stored as bytes: nothing learns them.
BUFFERS = re.compile(r"running_(mean|var)|num_batches_tracked|:scale$")


@pytest.fixture(scope="module")
def exported(tmp_path_factory, checkpoint_path):
    from click.testing import CliRunner

    from dff_edge.cli import main

    folder = tmp_path_factory.mktemp("exported") / "bundle"
    for arguments in (
        ["export", str(checkpoint_path), "-o", str(folder), "--interval", "5"],
        ["calibrate", str(folder), "--source", CLIPS],
    ):
        done = CliRunner().invoke(main, arguments)
        assert done.exit_code == 0, done.output
    return folder


def test_export_says_how_far_each_graph_is_from_torch(dff_edge, checkpoint_path, tmp_path):
    done = dff_edge("export", checkpoint_path, "-o", tmp_path / "bundle", "--json", "-")
    numbers = json.loads(done.stdout)
    outputs = {(record["subnet"], record["output"]) for record in numbers["parity"]}
    assert outputs == {
        ("feature", "features"), ("flow", "flow"), ("flow", "scale"), ("task", "scores"),
        ("propagate", "scores"),
    }  # fmt: skip
    assert all(record["relative_error"] <= record["tolerance"] for record in numbers["parity"])


def test_export_replaces_a_bundle_but_no_other_folder(dff_edge, checkpoint_path, tmp_path):
    for _ in range(2):
        assert dff_edge("export", checkpoint_path, "-o", tmp_path / "bundle").exit_code == 0
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    done = dff_edge("export", checkpoint_path, "-o", mine)
    assert done.exit_code == 1
    assert (mine / "thesis.txt").read_text() == "years of work"


def test_export_of_nothing_names_the_shipped_models(dff_edge, tmp_path):
    done = dff_edge("export", "no-such-model", "-o", tmp_path / "bundle")
    assert done.exit_code == 2
    assert "'no-such-model' does not exist" in done.stderr
    assert "camvid, camvid-accurate, drone, street" in done.stderr
    assert "Traceback" not in done.output


def test_inspect_bundle(dff_edge, exported):
    facts = json.loads(dff_edge("inspect", exported, "--json", "-").stdout)
    assert facts["key_interval"] == 5
    assert facts["frame_size"] == [64, 128]
    sizes = facts["bytes"]
    assert set(sizes["ort"]) == set(sizes["trt"]) == {"fp32", "fp16", "int8"}
    assert sizes["ort"]["int8"] < sizes["ort"]["fp16"] < sizes["ort"]["fp32"]
    graphs = {graph["graph"]: graph for graph in facts["graphs"]}
    assert graphs["fp32 feature"]["operators"]["Conv"] == 21  # 17 of the blocks, stem, 3 shortcuts
    assert "QuantizeLinear" in graphs["int8 feature"]["operators"]
    assert graphs["int8 propagate, TensorRT"]["operators"]["dff::DffWarp"] == 1
    assert graphs["fp32 flow, TensorRT"]["file"] == graphs["fp32 flow"]["file"] == "flow.onnx"
    text = dff_edge("inspect", exported).stdout
    assert "frame size: 64, 128" in text
    assert "trt/int8/flow.onnx" in text


def test_inspect_tells_of_a_correction_network(dff_edge):
    facts = json.loads(dff_edge("inspect", "camvid-accurate", "--json", "-").stdout)
    with safe_open(Path(facts["checkpoint"]) / "weights.safetensors", "np") as file:
        sizes = {name: math.prod(file.get_slice(name).get_shape()) for name in file.keys()}
    learned = {name: size for name, size in sizes.items() if not BUFFERS.search(name)}
    own = sum(size for name, size in learned.items() if name.startswith("correction."))

    assert facts["correction"] == "efficientnet_lite0, width 1.0, 32 channels"
    assert facts["parameters"]["correction"] == own
    assert sum(facts["parameters"].values()) == sum(learned.values())
    assert "correction: none\n" in dff_edge("inspect", "street").stdout


def test_inspect_checkpoint(dff_edge, checkpoint_path):
    facts = json.loads(dff_edge("inspect", checkpoint_path, "--json", "-").stdout)
    assert facts["name"] == "tiny"
    assert facts["parameters"]["task"] == 16 * 8 + 8


def test_inspect_of_no_bundle(dff_edge, tmp_path):
    done = dff_edge("inspect", tmp_path)
    assert done.exit_code == 1
    assert "manifest.json" in done.stderr


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_evaluate_bundle(dff_edge, exported, precision):
    done = dff_edge(
        "evaluate", exported, "--source", CLIPS, "--precision", precision, "--max-interval", 3,
        "--json", "-",
    )  # fmt: skip
    numbers = json.loads(done.stdout)
    assert len(numbers["miou_at_distance"]) == 3
    assert numbers["miou_at_interval"][0] == numbers["miou_at_distance"][0]
    assert set(numbers["temporal_consistency"]) == {"1", "3"}
    assert all(0 <= value <= 1 for value in numbers["temporal_consistency"].values())


def labelled(root, label):
    """Frames of a street of which a quarter is ``label``, the rest as it is."""
    (root / "labels").mkdir(parents=True)
    for n in range(3):
        image, labels = StreetScene(1, "val", (64, 128), 8).render(n)
        labels = labels.copy()
        labels[:, :32] = label
        write(root / "images" / f"{n}.png", image)
        write(root / "labels" / f"{n}.png", labels)
    return root


def test_evaluate_tells_what_is_not_scored(dff_edge, exported, tmp_path):
    common = ("evaluate", exported, "--source", labelled(tmp_path / "x", 255), "--max-interval", 2)

    assert json.loads(dff_edge(*common, "--json", "-").stdout)["not_scored"] == 0.25
    assert "25.0% of the labelled pixels (label 255) are not scored" in dff_edge(*common).stdout


def test_evaluate_refuses_labels_of_no_class(dff_edge, exported, tmp_path):
    done = dff_edge("evaluate", exported, "--source", labelled(tmp_path / "x", 8))

    assert done.exit_code == 1
    assert "25.0% of the pixels have labels of no class, 8 the largest, exp" in done.stderr


def test_evaluate_checkpoint_agrees_with_its_bundle(dff_edge, exported, checkpoint_path):
    values = []
    for model in (exported, checkpoint_path):
        done = dff_edge(
            "evaluate", model, "--source", CLIPS, "--max-interval", 3, "--json", "-"
        )  # fmt: skip
        values.append(json.loads(done.stdout)["miou_at_distance"])
    assert values[0] == pytest.approx(values[1], abs=2e-3)


def test_evaluate_table(dff_edge, exported):
    done = dff_edge("evaluate", exported, "--source", CLIPS, "--max-interval", 2)
    assert "DFF at distance + 1" in done.stdout
    assert "pedestrian" in done.stdout
    assert "temporal consistency" in done.stdout


def test_copied_features_need_a_checkpoint(dff_edge, exported):
    done = dff_edge("evaluate", exported, "--source", CLIPS, "--copy-features")
    assert done.exit_code == 2
    assert "--copy-features is for checkpoints" in done.stderr


def test_copied_features_are_another_result(dff_edge, checkpoint_path):
    values = []
    for option in ([], ["--copy-features"]):
        done = dff_edge(
            "evaluate", checkpoint_path, "--source", CLIPS, "--max-interval", 4, *option,
            "--json", "-",
        )  # fmt: skip
        values.append(json.loads(done.stdout)["miou_at_distance"])
    assert values[0][0] == values[1][0]  # key frames
    assert values[0] != values[1]


def test_evaluate_on_unlabelled_data(dff_edge, exported, tmp_path):
    done = dff_edge("evaluate", exported, "--source", tmp_path)
    assert done.exit_code == 1
    assert "images" in done.stderr


@pytest.mark.parametrize("flavour", ["ort", "trt"])
def test_calibrate_for_one_runtime_alone(dff_edge, checkpoint_path, tmp_path, flavour):
    folder = tmp_path / "bundle"
    assert dff_edge("export", checkpoint_path, "-o", folder, "--interval", 5).exit_code == 0

    done = dff_edge("calibrate", folder, "--source", CLIPS, "--flavour", flavour)

    assert done.exit_code == 0, done.output
    precisions = [line.split()[0] for line in done.stdout.splitlines() if "TensorRT" in line]
    assert precisions == (["fp32", "fp16", "int8"] if flavour == "trt" else ["fp32"])
    assert f"clips of {CLIPS}" in done.stdout


def test_calibrate_one_precision_alone(dff_edge, checkpoint_path, tmp_path):
    folder = tmp_path / "bundle"
    assert dff_edge("export", checkpoint_path, "-o", folder, "--interval", 5).exit_code == 0

    done = dff_edge("calibrate", folder, "--source", CLIPS, "--precision", "fp16")

    assert done.exit_code == 0, done.output
    rows = {tuple(line.split()[:2]) for line in done.stdout.splitlines() if "%" in line}
    assert rows == {(p, w) for p in ("fp32", "fp16") for w in ("ONNX", "TensorRT")}


def test_too_little_calibration_data(dff_edge, exported):
    done = dff_edge(
        "calibrate", exported, "--source", "synthetic://street?split=val&clips=1&frames=3"
    )
    assert done.exit_code == 1
    assert "expected at least" in done.stderr
