"""An experiment that takes seconds: the smallest networks on the smallest scenes."""

from __future__ import annotations

import copy

import yaml

from dff_edge.experiment.config import ExperimentConfig
from tests.trainer.tiny import TINY

STAGE = {"steps": 2, "batch_size": 2, "lr": 0.01}
TRAIN = {key: value for key, value in TINY.items() if key != "seed"} | {
    "stages": [{"kind": kind, **STAGE} for kind in ("recognition", "flow", "pairs")]
}
TEST = "synthetic://street?split=test&clips=1&frames=3&height=32&width=64"
SPEED = {"frames": 4, "repetitions": 1, "threads": 1}
EXPERIMENT = {"interval": 2, "test": TEST, "speed": SPEED, "train": TRAIN}


def tiny_dict(**changes):
    """The configuration as YAML gives it, with whole keys replaced."""
    return copy.deepcopy(EXPERIMENT) | changes


def tiny_config(**changes):
    return ExperimentConfig.model_validate(tiny_dict(**changes))


def write_config(path, content):
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path
