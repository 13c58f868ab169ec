"""Whole runs of the tiny model: the same run again, broken, and what it read."""

from __future__ import annotations

import csv

import pytest
import torch

from dff_edge.trainer import train as train_module
from dff_edge.trainer.checkpoint import load_checkpoint
from dff_edge.trainer.learner import Learner
from tests.trainer.tiny import STAGE, TINY, tiny_config

VALIDATION = "synthetic://street?clips=1&frames=6&height=32&width=64"


def with_validation():
    return tiny_config(
        data=TINY["data"] | {"validate_on": VALIDATION},
        stages=[
            {"kind": "recognition", **STAGE, "validate_every": 1},
            {"kind": "flow", **STAGE},
            {"kind": "pairs", **STAGE, "validate_every": 2},
        ],
    )


def one_stage(kind="recognition", **changes):
    return tiny_config(stages=[{"kind": kind, **STAGE, "steps": 1} | changes])


def recorded():
    """Note which items each data set was asked for."""
    items = []
    patch = pytest.MonkeyPatch()
    open_pairs = train_module.open_pairs

    def open_recorded(*arguments, **options):
        pairs, seen = open_pairs(*arguments, **options), []
        items.append(seen)

        class Recorded(torch.utils.data.Dataset):
            knows_flow = pairs.knows_flow

            def __getattr__(self, name):
                return getattr(pairs, name)

            def __len__(self):
                return len(pairs)

            def __getitem__(self, index):
                seen.append(index)
                return pairs[index]

        return Recorded()

    class Patched:
        def __enter__(self):
            patch.setattr(train_module, "open_pairs", open_recorded)
            return items

        def __exit__(self, *_error):
            patch.undo()

    return Patched()


def breaking(monkeypatch, error, kind, step):
    """Fail in a stage before a step."""
    training_step = Learner.training_step

    def fail(self, *arguments):
        if self.stage.kind == kind and self.global_step == step:
            raise error
        return training_step(self, *arguments)

    monkeypatch.setattr(Learner, "training_step", fail)


def metrics(folder):
    (path,) = folder.glob("logs/version_*/metrics.csv")
    with path.open() as file:
        return list(csv.DictReader(file))


def weights(checkpoint):
    return load_checkpoint(checkpoint).model.state_dict()
