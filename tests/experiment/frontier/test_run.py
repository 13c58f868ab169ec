"""The frontier in one command, and what is found again."""

from __future__ import annotations

import json
import math
import shutil

import pytest
import yaml
from click.testing import CliRunner

from dff_edge.cli.experiment import command
from dff_edge.errors import ConfigError
from dff_edge.experiment import runs as runs_module
from dff_edge.experiment.frontier import bundles as bundles_module
from dff_edge.experiment.frontier import run as run_module
from dff_edge.experiment.frontier.accuracy import Distances, ScoredFrames
from dff_edge.experiment.frontier.bundles import Int8Bundles
from dff_edge.experiment.frontier.checkpoints import load_networks
from dff_edge.experiment.frontier.config import load_trainings
from dff_edge.trainer.checkpoint import load_checkpoint
from tests.experiment.frontier.tiny import tiny_config, tiny_dict


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("frontier")


@pytest.fixture(scope="module")
def first(folder):
    path = folder / "frontier.yaml"
    path.write_text(yaml.safe_dump(tiny_dict(folder)), encoding="utf-8")
    call = ["frontier", "--config", str(path), "-o", str(folder / "run")]
    result = CliRunner().invoke(command, call)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def run(folder, first):
    return folder / "run"


def rows_of(run):
    found = json.loads((run / "frontier.json").read_text())
    return found, {
        (row["network"], row["method"], row["flow"], row["interval"]): row for row in found["rows"]
    }


def test_all_rows_in_one_command(run, first):
    assert (run / "frontier.md").read_text() in first
    assert (run / "frontier.png").is_file()
    found, rows = rows_of(run)
    assert list(rows) == [
        ("heavy", "frame", None, 1),
        ("heavy", "dff", "network", 2),
        ("heavy", "dff", "network", 3),
        ("heavy", "dff", "dis-ultrafast", 2),
        ("heavy", "dff", "dis-ultrafast", 3),
        ("heavy", "held", None, 2),
        ("heavy", "held", None, 3),
        ("heavy", "background", "network", None),
        ("light", "frame", None, 1),
    ]
    assert all(0 <= row["accuracy"] <= 1 and row["ms"] > 0 for row in rows.values())
    held = [n * rows["heavy", "held", None, n]["ms"] for n in (2, 3)]
    assert held == pytest.approx([rows["heavy", "frame", None, 1]["ms"]] * 2)
    live = rows["heavy", "background", "network", None]["live"]
    assert found["frames_before"] == max(2, 2 * live["lag"] - 1)
    assert found["rival"] == "light"
    assert found["metric"] == "mIoU"


def test_what_was_made_is_used_again(folder, run, monkeypatch):
    for module, name in ((runs_module, "train"), (bundles_module, "export_bundle")):
        monkeypatch.delattr(module, name)
    config = tiny_config(folder)
    before, rows = rows_of(run)
    lives = {"heavy": run_module.LiveRun(**rows["heavy", "background", "network", None]["live"])}
    monkeypatch.setattr(run_module, "_live_runs", lambda config, ways: lives)
    monkeypatch.delattr("dff_edge.experiment.frontier.accuracy.evaluate")

    again = run_module.run_frontier(config, run, ())

    assert [row.accuracy for row in again.rows] == [row["accuracy"] for row in before["rows"]]


def test_rows_are_scored_on_the_same_frames_whatever_their_interval(folder, run):
    """DFF at 1 is that of key frames, for each set of distances and with answers held."""
    config = tiny_config(folder)
    heavy = load_checkpoint(run / "runs" / "heavy" / "checkpoint")
    bundle = Int8Bundles(run / "bundles", config.calibration).of("heavy", heavy, "network")
    scored = ScoredFrames(config.test, 4, folder / "accuracies", 1)

    one, three, held = (
        scored.accuracies(bundle, distances)
        for distances in (Distances(1), Distances(3), Distances(3, are_held=True))
    )

    assert one[0] == three[0] == held[0]
    assert three[2] != held[2]
    assert not math.isnan(scored.accuracies(bundle, Distances(2, lag=2))[1])


def test_test_clips_that_are_too_short_are_refused(tmp_path):
    clips = "synthetic://street?split=test&clips=2&frames=8&height=32&width=64"

    with pytest.raises(ConfigError, match="no labelled frame has 8 frames before it"):
        ScoredFrames(clips, 8, tmp_path)


def test_a_copied_run_of_another_recipe_is_refused(folder, run, tmp_path):
    config = tiny_config(folder)
    trainings = load_trainings(config)
    shutil.copytree(run / "runs", tmp_path / "runs")
    load_networks(config, trainings, tmp_path / "runs")
    shutil.rmtree(tmp_path / "runs" / "light")
    shutil.copytree(run / "runs" / "heavy", tmp_path / "runs" / "light")

    with pytest.raises(ConfigError, match=r"model\.feature\.width, stages\.0\.kind.*Move it away"):
        load_networks(config, trainings, tmp_path / "runs")


def test_networks_of_other_classes_are_refused(folder, run, tmp_path):
    other = {"role": "smaller", "checkpoint": "camvid"}
    config = tiny_config(folder, other=other)

    with pytest.raises(ConfigError, match="other is for segmentation of sky, building.*heavy for"):
        load_networks(config, load_trainings(config), run / "runs")
