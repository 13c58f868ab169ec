"""A training run that takes seconds: the smallest networks on the smallest scenes."""

from __future__ import annotations

import copy

import yaml

from dff_edge.synthetic import BOX_CLASSES, CLASSES, COLOURS
from dff_edge.trainer.config import TrainConfig

STAGE = {"steps": 4, "batch_size": 2, "lr": 0.01, "epoch_steps": 2}
TINY = {
    "name": "tiny",
    "seed": 3,
    "model": {
        "feature": {"name": "resnet18", "width": 0.125, "channels": 8},
        "flow": {"name": "inception", "width": 0.25},
        "task": {"classes": list(CLASSES), "colours": [list(colour) for colour in COLOURS]},
        "frame_size": [32, 64],
    },
    "data": {"max_distance": 3, "group": 2, "workers": 0},
    "stages": [
        {"kind": "recognition", **STAGE},
        {"kind": "flow", **STAGE},
        {"kind": "pairs", **STAGE},
    ],
    "device": {"accelerator": "cpu", "devices": 1},
}
DETECTION_MODEL = TINY["model"] | {
    "frame_size": [64, 128],
    "task": {
        "name": "detection",
        "classes": list(BOX_CLASSES),
        "colours": [[0, 0, 200], [220, 20, 60], [250, 200, 30]],
        "rfcn": {"bins": 3, "anchor_scales": [1, 2], "proposals": 20},
    },
}
DDP_ATOL = 2e-5  # float32: two halves of a batch are averaged in another order


def tiny_dict(**changes):
    """The configuration as YAML gives it, with whole sections replaced."""
    return copy.deepcopy(TINY) | changes


def tiny_config(**changes):
    return TrainConfig.model_validate(tiny_dict(**changes))


def write_config(path, **changes):
    path.write_text(yaml.safe_dump(tiny_dict(**changes)), encoding="utf-8")
    return path
