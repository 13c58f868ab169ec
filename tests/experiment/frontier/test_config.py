"""Configurations of the frontier, ours and wrong ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from dff_edge.errors import ConfigError
from dff_edge.experiment.frontier.config import FrontierConfig, load_trainings
from dff_edge.trainer.learner import find_layer
from dff_edge.trainer.models import build_model
from dff_edge.trainer.settings import load_settings
from tests.experiment.frontier.tiny import FRONTIER, STEPS, TRAIN, tiny_config, tiny_dict

ROOT = Path(__file__).parents[3]
OURS = sorted((ROOT / "configs" / "experiments").glob("frontier_*.yaml"))


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.stem)
def test_ours_compare_what_belongs_together(path, monkeypatch):
    monkeypatch.chdir(ROOT)  # which the paths in them are relative to
    config = load_settings(path, FrontierConfig)
    roles = {name: network.role for name, network in config.networks.items()}

    assert set(roles.values()) == {"dff", "smaller", "light"}
    trainings = load_trainings(config)
    assert trainings.keys() == {n for n, each in config.networks.items() if each.checkpoint is None}
    assert {roles[name] for name in trainings} == {"light"}
    assert len({sum(s.steps for s in each.stages) for each in trainings.values()}) == 1
    for training in trainings.values():
        model = build_model(training.model)
        for layer in training.stages[0].fixed_layers:
            find_layer(model, layer)


def test_configuration_is_read_back_from_its_record(tmp_path):
    config = tiny_config(tmp_path)
    assert FrontierConfig.model_validate(config.model_dump(mode="json")) == config


def test_a_checkpoint_takes_the_place_of_a_training(tmp_path):
    path = tmp_path / "frontier.yaml"
    path.write_text(yaml.safe_dump(tiny_dict(tmp_path)), encoding="utf-8")
    changes = ["networks.light.checkpoint=a/checkpoint"]

    assert load_trainings(load_settings(path, FrontierConfig, changes)).keys() == {"heavy"}


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ({"role": "dff"}, "neither checkpoint nor train"),
        ({"role": "light", "checkpoint": "a", "held": True}, "held is given for the role 'light'"),
        (
            {"role": "dff", "checkpoint": "a", "flows": ["dis-fast"], "background": True},
            "background is true with the flows dis-fast, expected 'network'",
        ),
        ({"role": "dff", "checkpoint": "a", "flows": ["network"] * 2}, "more than once"),
        ({"role": "fast", "checkpoint": "a"}, "networks.a.role is 'fast'"),
    ],
)
def test_wrong_network_is_refused(tmp_path, network, message):
    path = tmp_path / "frontier.yaml"
    path.write_text(yaml.safe_dump(FRONTIER | {"networks": {"a": network}}), encoding="utf-8")

    with pytest.raises(ConfigError, match=message):
        load_settings(path, FrontierConfig)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("networks={}", "networks is {}"),
        ("intervals=[1, 2]", "intervals.0 is 1, expected: greater than or equal to 2"),
        ("intervals=[2, 2]", "intervals has 2 more than once"),
        (f"calibration.source={FRONTIER['test']}", "calibration.source is .*tested on"),
        ("networks.a/b={role: light, checkpoint: a}", "a/b"),
    ],
)
def test_wrong_setting_is_refused(tmp_path, change, message):
    path = tmp_path / "frontier.yaml"
    path.write_text(yaml.safe_dump(tiny_dict(tmp_path)), encoding="utf-8")

    with pytest.raises(ConfigError, match=message):
        load_settings(path, FrontierConfig, [change])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["data.train=synthetic://street?split=test&clips=9"], "test is .*networks.light is tr"),
        (["stages.0.steps=0"], "networks.light.train: .*stages.0.steps is 0"),
    ],
)
def test_wrong_training_is_refused_before_any(tmp_path, changes, message):
    (tmp_path / "wrong.yaml").write_text(
        yaml.safe_dump(TRAIN | {"stages": [{"kind": "recognition", **STEPS}]}), encoding="utf-8"
    )
    train = {"config": str(tmp_path / "wrong.yaml"), "changes": changes}

    with pytest.raises(ConfigError, match=message):
        load_trainings(tiny_config(tmp_path, light={"role": "light", "train": train}))
