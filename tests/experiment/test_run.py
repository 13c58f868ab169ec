"""The command, from a configuration to results."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from dff_edge.cli.experiment import command
from dff_edge.errors import ConfigError
from dff_edge.experiment.config import ExperimentConfig
from dff_edge.experiment.run import run_experiment
from dff_edge.experiment.table2 import run_table2
from dff_edge.trainer.settings import load_settings
from tests.experiment.tiny import tiny_dict, write_config

CONFIGS = Path(__file__).parents[2] / "configs" / "experiments"


def test_table4_in_one_command(tmp_path):
    config = write_config(tmp_path / "t.yaml", tiny_dict(flow_functions=["dis-ultrafast"]))
    folder = tmp_path / "run"
    call = ["table4", "--config", str(config), "-o", str(folder), "--seeds", "0"]

    result = CliRunner().invoke(command, [*call, "--set", "interval=3"])

    assert result.exit_code == 0, result.output
    assert (folder / "table4.md").read_text() in result.output
    found = json.loads((folder / "table4.json").read_text())
    rows = {row["name"]: row for row in found["rows"]}
    assert list(rows) == [
        "frame",
        "sff-dis-ultrafast",
        "dff",
        "dff-fix-n",
        "dff-fix-f",
        "dff-separate",
        "dff-no-scale",
        "copied",
    ]
    assert [row["interval"] for row in rows.values()] == [1, *[3] * 7]
    assert all(0 <= row["accuracy"][0] <= 1 for row in rows.values())
    assert [name for name, row in rows.items() if row["fps"] is None] == ["copied"]
    assert rows["dff"]["paper_accuracy"] == 69.2


def test_folder_of_another_configuration_is_refused(tmp_path):
    networks = {"features": [{"name": "resnet18"}], "flows": [{"name": "half"}]}
    config = write_config(tmp_path / "t.yaml", tiny_dict(**networks))
    again = [run_experiment("table2", config, (), tmp_path / "run", ()) for _ in range(2)]

    assert again[0] == again[1]
    with pytest.raises(ConfigError, match=r"differs.*flows\.0\.name.*give a new one"):
        run_experiment("table2", config, ["flows.0.name=simple"], tmp_path / "run", ())


def test_table2_is_close_to_the_papers():
    config = load_settings(CONFIGS / "cityscapes.yaml", ExperimentConfig)
    resnet50 = config.model_copy(update={"features": config.features[:1]})

    cells = run_table2(resnet50, Path(), ()).cells

    assert [cell.paper for cell in cells] == [9.20, 33.56, 68.97]
    for cell in cells:
        assert cell.inverse_ratio == pytest.approx(cell.paper, rel=0.05)


@pytest.mark.parametrize("experiment", ["table2", "table5", "figure3"])
def test_experiment_without_its_rows_is_refused(tmp_path, experiment):
    config = write_config(tmp_path / "t.yaml", tiny_dict())

    with pytest.raises(ConfigError, match="expected one or more"):
        run_experiment(experiment, config, (), tmp_path / "run", (0,))


@pytest.mark.parametrize("seeds", ["", "a", "1,1", "-1"])
def test_wrong_seeds_are_refused(tmp_path, seeds):
    config = write_config(tmp_path / "t.yaml", {})
    call = ["table4", "--config", str(config), "-o", str(tmp_path), f"--seeds={seeds}"]

    result = CliRunner().invoke(command, call)

    assert result.exit_code == 2
    assert "--seeds" in result.output
