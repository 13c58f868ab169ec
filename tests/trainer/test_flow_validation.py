"""The average end-point error is the mean distance to the true flow, of all known cells."""

from __future__ import annotations

import csv
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from dff_edge.errors import ConfigError
from dff_edge.trainer.config import StageConfig
from dff_edge.trainer.data import SyntheticPairs
from dff_edge.trainer.flow_validation import average_end_point_error
from dff_edge.trainer.learner import rate
from dff_edge.trainer.train import train
from dff_edge.trainer.validation import open_held_out, unused_settings
from tests.data.datasets.layouts import flying_chairs
from tests.trainer.tiny import STAGE, TINY, tiny_config


class ConstantFlow(nn.Module):
    """Says (dx, dy) everywhere."""

    def __init__(self, dx, dy):
        super().__init__()
        self.flow = nn.Parameter(torch.tensor([dx, dy]))
        self.feature = SimpleNamespace(stride=16)

    def estimate_flow(self, key_half, current_half):
        assert not self.training
        n, _, height, width = key_half.shape
        return self.flow.view(1, 2, 1, 1).expand(n, 2, height // 8, width // 8), None


def pair(flow):
    """Frames 32 x 64 and the flow (dx, dy) of their 2 x 4 cells in cells; it is given in pixels."""
    fine = 16 * np.repeat(np.repeat(np.float32(flow), 2, axis=0), 2, axis=1)
    frames = torch.zeros(1, 3, 32, 64, dtype=torch.uint8)
    truth = torch.from_numpy(fine).permute(2, 0, 1)[None]
    return {"key": frames, "current": frames, "flow_px": truth}


def test_error_is_the_mean_over_the_known_cells_of_all_pairs():
    first = np.zeros((2, 4, 2))
    first[:, :, 0] = 3  # with (0, 4) said: 5 cells off
    first[0] = np.nan
    second = np.zeros((2, 4, 2))  # 4 cells off

    error = average_end_point_error(ConstantFlow(0.0, 4.0), [pair(first), pair(second)])

    assert error == pytest.approx((4 * 5 + 8 * 4) / 12)


def test_flow_that_nobody_knows_has_no_error():
    assert np.isnan(
        average_end_point_error(ConstantFlow(0.0, 0.0), [pair(np.full((2, 4, 2), np.nan))])
    )


def test_flow_stage_logs_the_error_of_held_out_pairs(tmp_path):
    flying_chairs(tmp_path / "chairs", [1, 2, 2])
    chairs = f"flyingchairs://{tmp_path / 'chairs'}?split="
    data = {**TINY["data"], "train": f"{chairs}train", "validate_flow_on": f"{chairs}val"}
    stage = {**STAGE, "kind": "flow", "validate_every": 2}

    train(tiny_config(data=data, stages=[stage]), tmp_path / "run")

    (path,) = (tmp_path / "run").glob("0-flow/logs/version_*/metrics.csv")
    with path.open() as file:
        rows = [row for row in csv.DictReader(file) if row.get("val_aepe_cells")]
    assert len(rows) == 1  # of two epochs
    cells, pixels = (float(rows[0][name]) for name in ("val_aepe_cells", "val_aepe_half_px"))
    assert 0 < cells < 50
    assert pixels == pytest.approx(8 * cells)


def test_drawn_scenes_are_for_flow_of_any_model(tmp_path):
    """Their classes are not those of the model, and nothing reads them."""
    task = {"classes": ["a", "b"], "colours": [[0, 0, 0], [9, 9, 9]]}
    stage = {**STAGE, "kind": "flow", "steps": 1}
    config = tiny_config(model=TINY["model"] | {"task": task}, stages=[stage])

    assert train(config, tmp_path / "run").is_dir()


def test_drawn_scenes_beside_pictures_that_are_moved(tmp_path):
    data = TINY["data"] | {
        "train": str(tmp_path),
        "motion": "synthetic",
        "validate_flow_on": "synthetic://street?split=val",
    }
    stage = {**STAGE, "kind": "flow", "validate_every": 1}

    held_out = open_held_out(tiny_config(data=data, stages=[stage]))

    assert isinstance(held_out.flow_pairs, SyntheticPairs)
    assert held_out.flow_pairs.split == "val"
    assert held_out.clips == []


def test_held_out_pairs_without_a_split_are_not_those_for_training(tmp_path):
    flying_chairs(tmp_path / "chairs", [1, 2, 2])
    data = TINY["data"] | {"validate_flow_on": f"flyingchairs://{tmp_path / 'chairs'}"}
    stage = {**STAGE, "kind": "flow", "validate_every": 1}

    held_out = open_held_out(tiny_config(data=data, stages=[stage]))

    assert held_out.flow_pairs.is_held_out


@pytest.mark.parametrize(
    ("data", "stage", "expected"),
    [
        ({}, {"kind": "flow"}, []),
        ({}, {"kind": "flow", "validate_every": 2}, ["without data.validate_flow_on"]),
        ({}, {"kind": "pairs", "validate_every": 2}, ["without data.validate_on"]),
        ({"validate_on": "x"}, {"kind": "pairs", "validate_every": 2}, []),
        ({"validate_on": "x"}, {"kind": "pairs"}, ["data.validate_on is not used"]),
        (
            {"validate_on": "x"},
            {"kind": "flow", "validate_every": 1},
            ["data.validate_on is not used", "stages.0.validate_every does nothing without"],
        ),
    ],
)
def test_what_is_set_and_comes_to_nothing(data, stage, expected):
    config = tiny_config(data=TINY["data"] | data, stages=[STAGE | stage])

    lines = unused_settings(config)

    assert [any(part in line for line in lines) for part in expected] == [True] * len(expected)
    assert len(lines) == len(expected)


def test_data_without_true_flow_is_refused(tmp_path):
    import cv2

    for name in ("images", "labels"):
        (tmp_path / "data" / name).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "data" / name / "0.png"), np.zeros((32, 64), np.uint8))
    data = {**TINY["data"], "validate_flow_on": str(tmp_path / "data")}
    config = tiny_config(data=data, stages=[{**STAGE, "kind": "flow", "validate_every": 1}])

    with pytest.raises(ConfigError, match=r"validate_flow_on is '.*data', expected .* true flow"):
        train(config, tmp_path / "run")


def test_rate_falls_by_the_decay_at_each_milestone():
    stage = StageConfig(
        kind="flow", steps=100, lr=1, warmup=0, schedule="step", milestones=(0.5, 0.75), decay=0.5
    )

    assert [rate(stage, step) for step in (49, 50, 74, 75)] == [1, 0.5, 0.5, 0.25]
