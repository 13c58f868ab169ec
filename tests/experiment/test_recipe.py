"""Common parts and differences of the variants of Table 3."""

from __future__ import annotations

import pytest

from dff_edge.experiment.recipe import Recipe
from dff_edge.trainer.config import InitConfig
from dff_edge.trainer.models import FlowConfig
from tests.experiment.tiny import tiny_config


@pytest.fixture
def recipe():
    return Recipe(tiny_config().train, seed=1)


def test_frame_takes_as_many_steps_on_the_same_scenes(recipe):
    (frame,), (dff,) = recipe.frame().config.stages, recipe.dff().config.stages

    assert frame == dff.model_copy(update={"kind": "recognition"})
    assert recipe.frame().config.seed == recipe.dff().config.seed


def test_scenes_of_the_second_phase_are_new_and_of_no_other_seed():
    seeds = [
        run.config.seed
        for seed in range(3)
        for run in (
            Recipe(tiny_config().train, seed).recognition(),
            Recipe(tiny_config().train, seed).dff(),
        )
    ]
    assert len(set(seeds)) == 6


def test_variants_start_as_the_paper_has_it(recipe):
    start, flow, frame = recipe.recognition().key, recipe.flow().key, recipe.frame().key
    fixed_n = recipe.dff(fixed=("feature", "task"))

    def origins(run):
        return {network: origin.key for network, origin in run.start.items()}

    assert origins(recipe.frame()) == {"feature": start, "task": start}
    assert origins(recipe.dff()) == {"feature": start, "task": start, "flow": flow}
    assert origins(recipe.dff(fixed=("flow",))) == origins(recipe.dff())
    assert origins(fixed_n) == {"feature": frame, "task": frame, "flow": flow}
    assert origins(recipe.separate()) == origins(fixed_n)
    assert not recipe.separate().is_trained


def test_weights_at_hand_take_the_place_of_a_stage(tmp_path):
    """As the paper starts: N from ImageNet's weights, F from Flying Chairs'."""
    train = tiny_config().train
    for name in ("resnet.pth", "flownet.pth"):
        (tmp_path / name).write_text(name)
    init = InitConfig(feature=tmp_path / "resnet.pth", flow=tmp_path / "flownet.pth")
    recipe = Recipe(train.model_copy(update={"stages": train.stages[2:], "init": init}), seed=0)

    assert recipe.recognition() is None
    assert recipe.flow() is None
    assert recipe.dff().start == recipe.frame().start == {}
    assert recipe.dff().config.init == init
    assert set(recipe.dff(fixed=("feature", "task")).start) == {"feature", "task"}
    key = recipe.dff().key
    assert Recipe(train, 0).dff().key != key
    (tmp_path / "flownet.pth").write_text("others under the same name")
    assert recipe.dff().key != key


def test_networks_that_a_stage_does_not_use_do_not_change_it(recipe):
    model = recipe.train.model
    other = model.model_copy(update={"flow": FlowConfig(name="simple", width=0.25)})
    no_scale = model.model_copy(update={"flow": model.flow.model_copy(update={"scale": False})})

    assert recipe.recognition(other).key == recipe.recognition().key
    assert recipe.flow(no_scale).key == recipe.flow().key
    assert recipe.flow(other).key != recipe.flow().key
    assert len({recipe.dff(model=each).key for each in (model, other, no_scale)}) == 3


def test_key_follows_settings_of_runs_before(recipe):
    first, *others = recipe.train.stages
    longer = recipe.train.model_copy(
        update={"stages": (first.model_copy(update={"steps": 3}), *others)}
    )
    assert Recipe(longer, 1).dff().key != recipe.dff().key
    assert Recipe(longer, 1).flow().key == recipe.flow().key


def test_key_knows_no_names(recipe):
    renamed = recipe.train.model_copy(update={"name": "another"})
    assert Recipe(renamed, 1).dff("a-name").key == recipe.dff().key
