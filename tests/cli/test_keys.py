"""--keys and --lag of run, evaluate, benchmark and deploy, as their user types them."""

import json

import pytest

from tests.report.clips import NoiseClip, write_clips

STREET = "synthetic://street?seed=3&frames=14&height=32&width=64"
CLIPS = "synthetic://street?split=test&clips=2&frames=8"


@pytest.fixture
def clips(tmp_path):
    return write_clips(tmp_path / "clips", [NoiseClip(1, length=8), NoiseClip(2, length=8)])


def test_a_lag_is_seen_in_every_line_and_in_the_numbers(dff_edge, bundle_path, tmp_path):
    lines, numbers = tmp_path / "out.jsonl", tmp_path / "run.json"
    done = dff_edge(
        "run", bundle_path, STREET, "-o", lines, "--interval", 4, "--keys", "lag:3",
        "--json", numbers,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    records = [json.loads(line) for line in lines.read_text().splitlines()]
    # By hand: 4 is begun at 4 and used at 7, 8 at 8 (4 after 4) and 11, 12 at 12.
    assert [r["key_index"] for r in records] == [0, 0, 0, 0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8]
    assert [r["key_distance"] for r in records] == [0, 1, 2, 3, 4, 5, 6, 3, 4, 5, 6, 3, 4, 5]
    assert records[6]["key_age_ms"] == pytest.approx(6 / 30 * 1000, abs=1e-3)
    told = json.loads(numbers.read_text())
    assert told["key_frames"] == 3
    assert told["lag"]["p50"] == 3
    assert told["key_distance"]["p50"] == 4  # of 0 1 2 3 3 3 4 4 4 5 5 5 6 6
    assert told["stages"]["feature"]["count"] == 3
    assert "age of key frames, at capture: p50 4 frames" in done.stdout


def test_a_live_source_in_the_background(dff_edge, bundle_path):
    done = dff_edge("run", bundle_path, f"{STREET}&rate=100", "--keys", "background", "--json", "-")
    assert done.exit_code == 0, done.output
    numbers = json.loads(done.stdout)
    assert numbers["frames"] + numbers["dropped"] == 14
    assert numbers["key_frames"] >= 1


@pytest.mark.parametrize("command", ["run", "evaluate", "benchmark", "deploy"])
def test_another_mode_is_refused_by_every_command(dff_edge, bundle_path, command):
    rest = {"run": [STREET], "deploy": ["--target", "cpu"]}.get(command, ["--source", CLIPS])
    done = dff_edge(command, bundle_path, *rest, "--keys", "sometimes")
    assert done.exit_code == 2
    assert "keys is 'sometimes', expected in-order, background, or lag:n" in done.stderr


def test_accuracy_with_a_lag_is_that_of_the_same_distances(dff_edge, street_bundle_path, clips):
    common = ("evaluate", street_bundle_path, "--source", clips, "--json", "-", "--max-interval")
    all_of_them = json.loads(dff_edge(*common, 5).stdout)
    late = json.loads(dff_edge(*common, 3, "--lag", 2).stdout)
    same = json.loads(dff_edge(*common, 3, "--keys", "lag:2").stdout)
    assert (all_of_them["lag"], late["lag"]) == (0, 2)
    assert late["miou_at_distance"] == all_of_them["miou_at_distance"][2:]
    assert same == late
    only = json.loads(dff_edge(*common, 1, "--lag", 4).stdout)
    assert only["miou_at_interval"] == all_of_them["miou_at_distance"][4:]


def test_distances_are_named_in_the_table(dff_edge, street_bundle_path, clips):
    arguments = ("--source", clips, "--max-interval", 2, "--lag", 3)
    rows = dff_edge("evaluate", street_bundle_path, *arguments).stdout.splitlines()
    assert [row.split()[0] for row in rows[2:4]] == ["3", "4"]
    assert "IoU % at distance 3" in "\n".join(rows)


def test_clips_too_short_for_a_lag_are_refused(dff_edge, street_bundle_path, clips):
    arguments = ("--source", clips, "--max-interval", 5, "--lag", 4)
    done = dff_edge("evaluate", street_bundle_path, *arguments)
    assert done.exit_code == 1
    assert "no labelled frame has 8 frames before it" in done.stderr
    assert "intervals up to 5 need with a lag of 4" in done.stderr


def test_what_evaluate_cannot_measure_is_refused(dff_edge, street_bundle_path, clips):
    common = ("evaluate", street_bundle_path, "--source", clips)
    done = dff_edge(*common, "--keys", "background")
    assert done.exit_code == 2
    assert "how old features are depends on the machine" in done.stderr
    assert dff_edge(*common, "--keys", "lag:2", "--lag", 2).exit_code == 2


def test_benchmark_says_the_mode_that_it_measured(dff_edge, street_bundle_path, tmp_path):
    data = write_clips(tmp_path / "data", [NoiseClip(1, length=3)])
    done = dff_edge(
        "benchmark", street_bundle_path, "--source", data, "--intervals", "1,2", "--frames", 4,
        "--repetitions", 1, "--threads", 1, "--keys", "lag:1", "--json", "-",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    settings = json.loads(done.stdout)["settings"]
    assert settings["keys"] == "lag:1"
    assert "keys lag:1" in settings["schedules"]["fp32"]


def test_deploy_checks_answers_in_the_background(dff_edge, bundle_path, tmp_path, monkeypatch):
    monkeypatch.setenv("DFF_EDGE_CACHE", str(tmp_path / "cache"))
    source = "synthetic://street?seed=8&height=32&width=64"
    done = dff_edge(
        "deploy", bundle_path, "--target", "cpu", "--precision", "fp32", "--source", source,
        "--keys", "background",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "fp32: 100.00% of the pixels labelled as by its graphs" in done.stdout
