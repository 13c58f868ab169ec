"""Staleness and adaptive key frames in commands, as their user types them."""

import json
import shutil

import pytest

from tests.bundle.staleness_models import with_staleness
from tests.report.clips import NoiseClip, write_clips

STREET = "synthetic://street?seed=3&frames=14&height=32&width=64"


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    made = [NoiseClip(seed, length=8, classes=8) for seed in (1, 2)]
    return write_clips(tmp_path_factory.mktemp("staleness") / "clips", made)


@pytest.fixture(scope="module")
def foretelling(street_bundle_path, tmp_path_factory):
    folder = tmp_path_factory.mktemp("staleness") / "bundle"
    return with_staleness(shutil.copytree(street_bundle_path, folder)).path


def test_run_tells_shares_of_key_frames_and_how_stale_answers_are(dff_edge, foretelling, tmp_path):
    lines, numbers = tmp_path / "out.jsonl", tmp_path / "run.json"
    common = ("run", foretelling, STREET, "--policy", "adaptive:0.9,2..4")
    done = dff_edge(*common, "-o", lines, "--json", numbers)
    assert done.exit_code == 0, done.output

    records = [json.loads(line) for line in lines.read_text().splitlines()]
    assert [record["key_index"] for record in records] == [i - i % 4 for i in range(14)]
    told = [record["expected_disagreement"] for record in records]
    assert [value for value in told if value == 0] == [0] * 4  # key frames
    found = json.loads(numbers.read_text())
    assert found["key_share"] == pytest.approx(4 / 14)
    assert found["expected_disagreement"]["mean"] == pytest.approx(sum(told) / 14, abs=1e-4)
    assert "4 key frames (28.6%)" in done.stdout
    mean = found["expected_disagreement"]["mean"]
    assert f"expected disagreement with the full network: mean {mean:.1%}" in done.stdout


@pytest.mark.parametrize("command", ["run", "evaluate"])
def test_a_bundle_without_a_model_is_refused_with_what_makes_one(
    dff_edge, street_bundle_path, clips, command
):
    source = [STREET] if command == "run" else ["--source", clips]
    done = dff_edge(command, street_bundle_path, *source, "--policy", "adaptive:0.05")
    assert done.exit_code == 2
    assert f"`dff-edge calibrate {street_bundle_path} --source CLIPS`" in done.stderr


def test_evaluate_tells_what_a_policy_costs_and_its_accuracy_at_each_distance(
    dff_edge, foretelling, clips
):
    common = ("evaluate", foretelling, "--source", clips, "--policy", "adaptive:0.9,2..3")
    found = json.loads(dff_edge(*common, "--json", "-").stdout)
    assert (found["policy"], found["keys"]) == ("adaptive:0.9,2..3", "in-order")
    assert (found["frames"], found["key_frames"], found["key_share"]) == (16, 6, 0.375)
    rows = [(row["distance"], row["answers"]) for row in found["at_distance"]]
    assert rows == [(0, 6), (1, 6), (2, 4)]
    same = json.loads(
        dff_edge("evaluate", foretelling, "--source", clips, "--interval", 3, "--json", "-").stdout
    )
    assert same["at_distance"] == found["at_distance"]

    shown = dff_edge(*common)
    assert shown.exit_code == 0, shown.output
    assert "adaptive:0.9,2..3, keys in-order: 6 key frames in 16 frames (37.5%)" in shown.stdout
    assert "expected disagreement with the full network: mean " in shown.stdout
    assert f"mIoU over all answers: {100 * found['accuracy']:.1f} %" in shown.stdout


def test_a_policy_in_evaluate_is_for_bundles_and_has_no_largest_interval(
    dff_edge, foretelling, clips, checkpoint_path
):
    rest = ("--source", clips, "--policy", "fixed:3")
    done = dff_edge("evaluate", checkpoint_path, *rest)
    assert (done.exit_code, "--policy is for bundles" in done.stderr) == (2, True)
    done = dff_edge("evaluate", foretelling, *rest, "--max-interval", 3)
    assert (done.exit_code, "--max-interval is for pairs" in done.stderr) == (2, True)


def test_inspect_shows_the_model_and_its_quality(dff_edge, foretelling, street_bundle_path):
    shown = dff_edge("inspect", foretelling).stdout
    assert "fitted_on: 112 pairs at distances up to 34, 4 clips of clips" in shown
    assert "rank_correlation: 0.9" in shown
    assert "rank_correlation_of_distance_alone: 0.6" in shown
    assert "staleness: none" in dff_edge("inspect", street_bundle_path).stdout


def test_benchmark_tells_key_shares_and_staleness(dff_edge, foretelling, clips, tmp_path):
    numbers = tmp_path / "b.json"
    done = dff_edge(
        "benchmark", foretelling, "--source", clips, "--intervals", "1,3", "--frames", 3,
        "--repetitions", 1, "--threads", 1, "--precisions", "fp32", "--json", numbers,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    each, third = json.loads(numbers.read_text())["rows"]
    assert (each["key_share"], each["expected_disagreement"]) == (1, 0)
    assert third["key_share"] == pytest.approx(1 / 3)
    assert 0 < third["expected_disagreement"] < 1
    header = next(line for line in done.stdout.splitlines() if "speed-up" in line)
    assert ("keys %" in header, "stale %" in header) == (True, True)
