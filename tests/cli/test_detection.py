"""The commands on a bundle that detects."""

import json

import pytest

from dff_edge.synthetic import BOX_CLASSES
from tests.bundle.detection_bundles import make_detection_bundle

SOURCE = "synthetic://street?frames=6&height=64&width=96"
CLIPS = "synthetic://street?split=test&clips=1&frames=5&height=64&width=96"


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    return make_detection_bundle(tmp_path_factory.mktemp("cli") / "detector").path


def test_run_writes_boxes_and_counts_them(dff_edge, detector, tmp_path):
    lines, video = tmp_path / "out.jsonl", tmp_path / "out.mp4"

    done = dff_edge(
        "run", detector, SOURCE, "-o", lines, "-o", video, "--threshold", "0.3", "--json", "-"
    )

    assert done.exit_code == 0, done.output
    objects = [json.loads(line)["objects"] for line in lines.read_text().splitlines()]
    numbers = json.loads(done.stdout)
    assert len(objects) == numbers["frames"] == 6
    for name in BOX_CLASSES:
        count = sum(found["class"] == name for frame in objects for found in frame)
        assert numbers["objects"][name] == pytest.approx(count / 6)
    scores = [found["score"] for frame in objects for found in frame]
    assert min(scores) >= 0.3
    assert video.stat().st_size > 1000
    assert "objects in a frame: " in dff_edge("run", detector, SOURCE).stdout


def test_run_refuses_label_maps_before_it_begins(dff_edge, detector, tmp_path):
    done = dff_edge("run", detector, SOURCE, "-o", f"labels://{tmp_path / 'labels'}")
    assert done.exit_code == 1
    assert "accepts label maps, and this bundle does detection" in done.stderr


def test_threshold_is_for_bundles_that_detect(dff_edge, bundle_path):
    done = dff_edge("run", bundle_path, SOURCE, "--threshold", "0.3")
    assert done.exit_code == 2
    assert "does segmentation, and returns no boxes" in done.stderr


def test_evaluate_gives_map(dff_edge, detector):
    done = dff_edge("evaluate", detector, "--source", CLIPS, "--max-interval", 3, "--json", "-")
    numbers = json.loads(done.stdout)
    assert len(numbers["map_at_distance"]) == 3
    assert numbers["map_at_interval"][0] == numbers["map_at_distance"][0]
    assert set(numbers["class_ap"]) == set(BOX_CLASSES)
    assert numbers["temporal_consistency"] == {}
    text = dff_edge("evaluate", detector, "--source", CLIPS, "--max-interval", 3).stdout
    assert "mAP@0.5 %" in text
    assert "AP % of key frames" in text
    assert "mIoU" not in text


def test_evaluate_tells_precision_and_recall_at_the_threshold(dff_edge, detector, tmp_path):
    plot = tmp_path / "curves.png"
    evaluate = ("evaluate", detector, "--source", CLIPS, "--max-interval", 3)
    numbers = json.loads(dff_edge(*evaluate, "--json", "-", "--plot", plot).stdout)["boxes"]
    assert (numbers["threshold"], numbers["threshold_is_of"]) == (0.5, "default")
    assert set(numbers["recall"]) == set(numbers["precision"]) == set(BOX_CLASSES)
    assert numbers["best_f1"] >= numbers["f1"]
    assert plot.read_bytes().startswith(b"\x89PNG")
    text = dff_edge(*evaluate).stdout
    assert "boxes that score 0.50 and more (the default), at all distances:" in text
    assert f"from {numbers['best_threshold']:.2f} on" in text


def test_threshold_is_kept_in_a_bundle(dff_edge, tmp_path):
    path = make_detection_bundle(tmp_path / "detector").path
    evaluate = ("evaluate", path, "--source", CLIPS, "--max-interval", 3)
    best = json.loads(dff_edge(*evaluate, "--json", "-").stdout)["boxes"]
    assert best["best_threshold"] != 0.5  # or nothing is shown by this test

    done = dff_edge(*evaluate, "--keep-threshold", "--json", "-")

    assert done.exit_code == 0, done.output
    assert f"{path} shows boxes from a score of {best['best_threshold']:.2f} on." in done.stderr
    told = json.loads(done.stdout)["boxes"]
    assert (told["threshold"], told["threshold_is_of"]) == (best["best_threshold"], "model")
    assert told["f1"] == pytest.approx(best["best_f1"])
    kept = json.loads(dff_edge("inspect", path, "--json", "-").stdout)["score_threshold"]
    assert kept == {
        "score": best["best_threshold"],
        "f1": pytest.approx(best["best_f1"]),
        "data": CLIPS,
        "key_interval": 3,
    }
    assert json.loads(dff_edge(*evaluate, "--json", "-").stdout)["boxes"] == told


def test_threshold_of_label_maps_and_of_shipped_files_is_refused(dff_edge, bundle_path, tmp_path):
    clips = "synthetic://street?split=test&clips=1&frames=5&height=32&width=64"
    for option in (["--keep-threshold"], ["--plot", tmp_path / "plot.png"]):
        done = dff_edge("evaluate", bundle_path, "--source", clips, *option)
        assert done.exit_code == 2
        assert f"{option[0]} is for models that detect" in done.stderr
    done = dff_edge("evaluate", "street-detection", "--source", CLIPS, "--keep-threshold")
    assert done.exit_code == 2
    assert "'street-detection' comes with dff-edge" in " ".join(done.stderr.split())
    done = dff_edge("evaluate", bundle_path, "--source", clips, "--plot", "plot.jpg")
    assert "--plot is 'plot.jpg', expected a .png." in done.stderr


def test_evaluate_refuses_classes_in_another_order(dff_edge, tmp_path):
    """AP would be that of other classes, and nobody would see it."""
    classes = [{"name": name, "colour": [0, 0, 0]} for name in reversed(BOX_CLASSES)]
    path = make_detection_bundle(tmp_path / "detector", classes=classes).path
    done = dff_edge("evaluate", path, "--source", CLIPS, "--max-interval", 3)
    assert done.exit_code == 1
    assert "has the classes vehicle, pedestrian, pole, the model pole, pedestrian" in done.stderr


def test_benchmark_gives_and_records_map(dff_edge, detector, tmp_path):
    done = dff_edge(
        "benchmark", detector, "--source", CLIPS, "--intervals", "1,3", "--frames", 6,
        "--repetitions", 1, "--record",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "mAP@0.5 %" in done.stdout
    records = json.loads(dff_edge("inspect", detector, "--json", "-").stdout)["accuracy"]
    assert {record["distance"] for record in records if "distance" in record} == {0, 1, 2}
    assert all("map" in record and "miou" not in record for record in records)
    assert "mAP@0.5 over the pairs" in records[0]["protocol"]


def test_consistency_of_boxes_is_refused(dff_edge, detector):
    done = dff_edge("benchmark", detector, "--source", CLIPS, "--consistency")
    assert done.exit_code == 1
    assert "it compares label maps, and this bundle predicts boxes" in done.stderr


def test_inspect_names_the_task_and_the_maps(dff_edge, detector):
    text = dff_edge("inspect", detector).stdout
    assert "task: detection" in text
    assert "task_maps.onnx" in text


def test_deployed_graphs_detect_as_the_bundle_does(dff_edge, detector, tmp_path, monkeypatch):
    monkeypatch.setenv("DFF_EDGE_CACHE", str(tmp_path / "cache"))
    done = dff_edge("deploy", detector, "--target", "cpu", "--source", SOURCE)
    assert done.exit_code == 0, done.output
    assert "100.00% of the score given to the same objects as by its graphs" in done.stdout
    assert "task_maps" in done.stdout
    assert dff_edge("run", detector, SOURCE).exit_code == 0
