"""The recipes in configs/: each is valid, and its networks can be built."""

import re
from pathlib import Path

import pytest
import torch

from dff_edge.experiment.config import ExperimentConfig
from dff_edge.trainer.completion import load_whole_config
from dff_edge.trainer.config import load_config
from dff_edge.trainer.learner import rate
from dff_edge.trainer.models import build_model
from dff_edge.trainer.settings import load_settings

FOLDER = Path(__file__).resolve().parents[2] / "configs"
RECIPES = sorted(FOLDER.glob("*.yaml"))


def test_there_are_recipes():
    assert {path.stem for path in RECIPES} >= {"street", "paper_segmentation"}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipe_is_valid_and_builds(path):
    # The one recipe without networks of its own.
    started = ["init.model=street", "data.train=synthetic://street"] * (path.stem == "finetune")
    config = load_whole_config(path, started)

    with torch.device("meta"):  # takes no memory
        model = build_model(config.model)

    assert all(parameter.is_meta for parameter in model.parameters())


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipe_is_in_the_readme(path):
    assert f"`{path.name}`" in (FOLDER / "README.md").read_text(encoding="utf-8")


def test_paper_recipe_is_that_of_section_5():
    config = load_config(FOLDER / "paper_segmentation.yaml")
    (stage,) = config.stages

    assert (config.model.feature.name, config.model.channels) == ("resnet101", 1024)
    assert (config.model.flow.name, config.model.flow.scale) == ("simple", True)
    assert config.model.frame_size == (1024, 2048)
    assert config.data.max_distance == 9
    assert (config.data.augment.enlarge, config.data.augment.colour) == (1, 0)  # mirrored only
    assert (stage.kind, stage.optimizer, stage.batch_norm) == ("pairs", "sgd", "frozen")
    assert (stage.momentum, stage.weight_decay) == (0.9, 0.0005)
    assert config.device.devices * stage.batch_size == 8
    rates = [stage.lr * rate(stage, step) for step in (0, 14_999, 15_000, 19_999)]
    assert stage.steps == 20_000
    assert rates == pytest.approx([1e-3, 1e-3, 1e-4, 1e-4])
    assert config.init.feature is not None
    assert config.init.flow is not None
    assert config.init.feature_order == "rgb"


def test_paper_recipe_for_detection_is_that_of_section_5():
    config = load_config(FOLDER / "paper_detection.yaml")
    (stage,) = config.stages
    rates = [stage.lr * rate(stage, step) for step in (0, 39_900, 40_100, 59_999)]

    assert (config.model.feature.name, config.model.channels) == ("resnet101", 1024)
    assert (config.model.flow.name, config.model.flow.scale) == ("simple", True)
    assert len(config.model.task.classes) == 30
    assert (stage.steps, stage.batch_size * config.device.devices) == (60_000, 8)
    assert rates == pytest.approx([1e-3, 1e-3, 1e-4, 1e-4])
    assert stage.hard_examples == 128
    assert stage.fixed_layers == ("feature.conv1", "feature.layer1")  # the official code's
    assert (config.data.augment.enlarge, config.data.augment.colour) == (1, 0)


@pytest.mark.parametrize(
    ("experiment", "recipe"),
    [("cityscapes", "paper_segmentation"), ("imagenet_vid", "paper_detection")],
)
def test_experiments_on_the_papers_data_have_its_recipe(experiment, recipe):
    """But for one large GPU in place of eight."""
    path = FOLDER / "experiments" / f"{experiment}.yaml"
    ours = load_settings(path, ExperimentConfig).train.model_dump()
    papers = load_config(FOLDER / f"{recipe}.yaml").model_dump()

    for config in (ours, papers):
        (stage,) = config["stages"]
        assert stage.pop("batch_size") * config.pop("device")["devices"] == 8
        del config["name"], config["data"]["workers"]
    assert ours == papers


@pytest.mark.parametrize("recipe", ["paper_segmentation", "paper_detection"])
def test_variants_of_the_readme_are_changes_that_are_taken(recipe):
    """Table 3's rows, each with its ``--set``."""
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    rows = readme.partition("| variant | how |")[2].partition("\n\n")[0]
    changes = {
        line.split("|")[1].strip(): re.findall(r'--set (?:"([^"]*)"|([^\s`]+))', line)
        for line in rows.splitlines()[2:]
    }

    stages = {
        variant: load_config(FOLDER / f"{recipe}.yaml", [a or b for a, b in given]).stages[0]
        for variant, given in changes.items()
    }

    assert stages["Frame"].kind == "recognition"
    assert stages["DFF fix N"].fixed == ("feature", "task")
    assert stages["DFF fix F"].fixed == ("flow",)
    assert set(stages) == {"Frame", "DFF", "DFF fix N", "DFF fix F", "DFF separate", "SFF"}
