"""A frontier that takes seconds: the smallest networks on the smallest scenes."""

from __future__ import annotations

import copy

import yaml

from dff_edge.experiment.frontier.config import FrontierConfig
from tests.trainer.tiny import STAGE, TINY

TRAIN = {key: value for key, value in TINY.items() if key != "stages"}
STEPS = STAGE | {"steps": 2}
SIZE = "height=32&width=64"
FRONTIER = {
    "test": f"synthetic://street?split=test&clips=1&frames=40&{SIZE}",
    "calibration": {
        "source": f"synthetic://street?split=train&clips=3&frames=5&{SIZE}",
        "interval": 3,
    },
    "intervals": [2, 3],
    "camera": {"rate": 20, "frames": 20},
    "speed": {"frames": 4, "repetitions": 1, "threads": 1},
}


def tiny_dict(folder, **networks):
    """The configuration as YAML gives it, with a key and a light network to train.

    Args:
        folder: of the configurations of the trainings.
        networks: others.
    """
    (folder / "dff.yaml").write_text(
        yaml.safe_dump(TRAIN | {"stages": [{"kind": "pairs", **STEPS}]}), encoding="utf-8"
    )
    (folder / "frame.yaml").write_text(
        yaml.safe_dump(TRAIN | {"stages": [{"kind": "recognition", **STEPS}]}), encoding="utf-8"
    )
    own = {
        "heavy": {
            "role": "dff",
            "train": {"config": str(folder / "dff.yaml"), "changes": ["seed=1"]},
            "flows": ["network", "dis-ultrafast"],
            "held": True,
            "background": True,
        },
        "light": {
            "role": "light",
            "train": {
                "config": str(folder / "frame.yaml"),
                "changes": ["model.feature={name: resnet18, width: 0.0625, channels: 8}"],
            },
        },
    }
    return copy.deepcopy(FRONTIER) | {"networks": own | networks}


def tiny_config(folder, **networks):
    return FrontierConfig.model_validate(tiny_dict(folder, **networks))
