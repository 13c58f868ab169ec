"""Configurations of experiments, ours and wrong ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from dff_edge.errors import ConfigError
from dff_edge.experiment.config import ExperimentConfig
from dff_edge.experiment.paper import TABLE_5
from dff_edge.trainer.settings import load_settings
from tests.experiment.tiny import TRAIN, tiny_config, tiny_dict, write_config

STAGES = TRAIN["stages"]
CONFIGS = Path(__file__).parents[2] / "configs" / "experiments"
OURS = sorted(set(CONFIGS.glob("*.yaml")) - set(CONFIGS.glob("frontier_*.yaml")))


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.stem)
def test_ours_have_what_every_table_wants(path):
    config = load_settings(path, ExperimentConfig)

    assert set(config.splits) == set(TABLE_5["segmentation"])
    assert config.features
    assert config.flows
    assert config.interval == (10 if config.metric == "mAP" else 5)


def test_configuration_is_read_back_from_its_record():
    config = tiny_config(splits={1: "head", 0: "none"}, flow_functions=["farneback"])
    assert ExperimentConfig.model_validate(config.model_dump(mode="json")) == config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train": TRAIN | {"seed": 3}}, "train.seed is given.*--seeds"),
        (
            {"train": TRAIN | {"stages": STAGES[:2]}},
            "train.stages are recognition, flow, exp",
        ),
        ({"train": TRAIN | {"stages": STAGES[::-1]}}, "train.stages are pairs, flow"),
        (
            {"train": TRAIN | {"stages": STAGES[1:]}},
            "no 'recognition'.*train.init.feature",
        ),
        ({"test": "synthetic://street?split=train"}, "test is .*trained or watched on"),
        ({"test": "synthetic://street?split=train&clips=2"}, "test is .*trained or watched on"),
        (
            {
                "train": TRAIN | {"data": {"train": "camvid://a", "group": 2}},
                "test": "camvid://a?split=train",
            },
            "test is .*trained or watched on",
        ),
        (
            {
                "train": TRAIN | {"data": {"train": "vid+det://a?list=l", "group": 2}},
                "test": "det://a?split=train",
            },
            "test is .*trained or watched on",
        ),
        (
            {
                "train": TRAIN | {"data": {"validate_on": "camvid://a", "group": 2}},
                "test": "camvid://a?split=val",
            },
            "test is .*trained or watched on",
        ),
        (
            {"train": TRAIN | {"data": {"train": "a/b", "group": 2}}, "test": "a/b/"},
            "test is .*trained or watched on",
        ),
        ({"flow_functions": ["magic"]}, "flow_functions.0 is 'magic'"),
        ({"interval": 0}, "interval is 0"),
        ({"splits": {1: "head", 0: "head"}}, "splits has head more than once"),
        ({"train": TRAIN | {"device": {"devices": 2}}}, "train.device has devices: 2"),
    ],
)
def test_wrong_setting_is_refused(tmp_path, change, message):
    path = write_config(tmp_path / "table4.yaml", tiny_dict(**change))

    with pytest.raises(ConfigError, match=message):
        load_settings(path, ExperimentConfig)


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("vid+det://a?frames=15&list=l", "vid://a?split=val"),
        ("camvid://a", "camvid://a"),
        ("camvid://a", "camvid://b?split=train"),
        ("synthetic://street", "synthetic://street?clips=2"),
    ],
)
def test_other_splits_are_for_testing(train, test):
    tiny_config(train=TRAIN | {"data": {"train": train, "group": 2}}, test=test)


def test_split_that_the_network_has_not_is_refused(tmp_path):
    content = tiny_dict(splits={1: "head", 5: "layer9.1"})
    path = write_config(tmp_path / "table5.yaml", content)

    with pytest.raises(ConfigError, match=r"layer9\.1.*layer4\.1"):
        load_settings(path, ExperimentConfig)
