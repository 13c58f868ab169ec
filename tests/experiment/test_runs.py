"""Runs are made once, found again, gone on with; and train what their variant says."""

from __future__ import annotations

import pytest
import torch

from dff_edge.errors import SinkError
from dff_edge.experiment import runs as runs_module
from dff_edge.experiment.recipe import Recipe
from dff_edge.experiment.runs import Runs
from dff_edge.files.locks import FolderLock
from dff_edge.trainer.checkpoint import load_checkpoint
from tests.experiment.tiny import tiny_config
from tests.trainer.runs import breaking

RECIPE = Recipe(tiny_config().train, seed=0)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return Runs(tmp_path_factory.mktemp("runs"))


def networks(runs, run):
    model = load_checkpoint(runs.checkpoint(run)).model
    return {name: getattr(model, name).state_dict() for name in ("feature", "task", "flow")}


def same(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


def test_separate_is_frame_with_the_flow_as_it_was_pre_trained(runs):
    found = networks(runs, RECIPE.separate())
    frame, flow = networks(runs, RECIPE.frame()), networks(runs, RECIPE.flow())

    assert same(found["feature"], frame["feature"])
    assert same(found["task"], frame["task"])
    assert same(found["flow"], flow["flow"])


def test_frame_goes_on_from_the_common_start(runs):
    found, start = networks(runs, RECIPE.frame()), networks(runs, RECIPE.recognition())

    assert not same(found["feature"], start["feature"])


def test_fixed_networks_are_those_that_it_started_with(runs):
    fixed_n = networks(runs, RECIPE.dff(fixed=("feature", "task")))
    frame, flow = networks(runs, RECIPE.frame()), networks(runs, RECIPE.flow())

    assert same(fixed_n["feature"], frame["feature"])
    assert same(fixed_n["task"], frame["task"])
    assert not same(fixed_n["flow"], flow["flow"])


def test_finished_run_is_not_trained_again(runs, monkeypatch):
    run = RECIPE.recognition()
    made = runs.checkpoint(run)
    monkeypatch.delattr(runs_module, "train")

    assert runs.checkpoint(run) == made


def test_run_is_found_under_the_name_of_another_experiment(runs):
    made = runs.checkpoint(RECIPE.flow())
    renamed = type(RECIPE.flow())("another-name", RECIPE.flow().config)

    assert runs.checkpoint(renamed) == made


def test_broken_run_goes_on_to_the_weights_of_an_unbroken_one(runs, tmp_path, monkeypatch):
    unbroken = networks(runs, RECIPE.recognition())
    broken, train, resumed = Runs(tmp_path), runs_module.train, []

    def stop(config, folder, *, resume):
        resumed.append(resume)
        train(config, folder, resume=resume)
        (folder / "checkpoint" / "model.json").unlink()
        (folder / "checkpoint" / "weights.safetensors").unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(runs_module, "train", stop)
        with pytest.raises(KeyboardInterrupt):
            broken.checkpoint(RECIPE.recognition())
    found = networks(broken, RECIPE.recognition())

    assert resumed == [False]
    assert all(same(found[name], unbroken[name]) for name in found)


def test_broken_run_goes_on_in_a_folder_that_was_moved(tmp_path, monkeypatch):
    """Its record names the checkpoints that it started from."""
    run, before, after = RECIPE.dff(), tmp_path / "before", tmp_path / "after"
    with monkeypatch.context() as patch:
        breaking(patch, RuntimeError("power cut"), "pairs", step=1)
        with pytest.raises(RuntimeError, match="power cut"):
            Runs(before).checkpoint(run)
    before.rename(after)

    assert (Runs(after).checkpoint(run) / "model.json").is_file()
    assert Runs(after).folder(run).parent == after


def test_run_that_another_process_trains_is_refused(runs):
    wanted = Recipe(tiny_config().train, seed=77).recognition()
    folder = runs.folder(wanted)
    folder.mkdir(parents=True)
    with FolderLock(folder, "run"), pytest.raises(SinkError, match="is being written by"):
        runs.checkpoint(wanted)
    assert list(folder.iterdir()) == []
