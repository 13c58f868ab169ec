"""The weights of the best validation are kept, and a stage without better ones ends."""

import logging

import pytest
import torch
from torch import nn

from dff_edge.errors import ConfigError
from dff_edge.trainer.best_weights import BestWeights
from dff_edge.trainer.curves import read_curves
from dff_edge.trainer.saves import Owner
from dff_edge.trainer.stage_validation import StageValidation
from dff_edge.trainer.train import train
from tests.trainer.runs import metrics, weights
from tests.trainer.tiny import STAGE, TINY, tiny_config

DATA = TINY["data"] | {
    "validate_on": "synthetic://street?clips=1&frames=2&height=32&width=64",
    "validate_interval": 1,
}


def best_of(folder, patience=None, stage="0-recognition"):
    return BestWeights(folder, Owner(tiny_config(), stage), patience=patience)


def layer(value):
    made = nn.Linear(1, 1)
    nn.init.constant_(made.weight, value)
    return made


def considered(best, values, **options):
    for step, value in enumerate(values, 1):
        best.consider(layer(float(step)), "val", value, step, **options)
    return best


@pytest.mark.parametrize(
    ("values", "higher", "step"),
    [
        ([0.1, 0.5, 0.4], True, 2),
        ([0.1, 0.5, 0.4], False, 1),
        ([0.5, 0.5], True, 1),  # the first of equals
        ([float("nan"), 0.2, float("nan")], True, 2),
        ([0.2, 0.0, 0.0], False, 2),
    ],
)
def test_best_of_several(tmp_path, values, higher, step):
    best = considered(best_of(tmp_path), values, higher_is_better=higher)
    model = layer(0.0)

    best.load(model)

    assert (best.step, model.weight.item()) == (step, step)


def test_nothing_measured_keeps_the_last(tmp_path, caplog):
    best, model = considered(best_of(tmp_path), [float("nan")] * 2), layer(9.0)

    best.load(model)

    assert model.weight.item() == 9
    assert "no validation gave a number; the last weights are kept" in caplog.text


def test_patience_counts_validations_without_a_better_one(tmp_path):
    best = best_of(tmp_path, patience=2)

    ends = []
    for step, value in enumerate([0.3, 0.2, 0.4, 0.4, float("nan")]):
        best.consider(layer(0.0), "val", value, step)
        ends.append(best.is_over)

    assert ends == [False, False, False, False, True]


def test_state_goes_on_where_it_was(tmp_path):
    state = considered(best_of(tmp_path, patience=2), [0.5, 0.1]).state()
    best = best_of(tmp_path, patience=2)

    best.restore(state)
    best.consider(layer(7.0), "val", 0.3, 3)

    assert (best.is_over, best.step, best.value) == (True, 1, 0.5)


def test_weights_of_another_stage_are_refused(tmp_path):
    best = considered(best_of(tmp_path, stage="1-pairs"), [0.5])
    other = best_of(tmp_path)
    other.restore(best.state())

    with pytest.raises(ConfigError, match="best.safetensors is not a save of this stage"):
        other.load(layer(0.0))


def test_weights_that_are_gone_are_told(tmp_path):
    best = considered(best_of(tmp_path), [0.5])
    (tmp_path / "best.safetensors").unlink()

    with pytest.raises(ConfigError, match=r"best\.safetensors is missing.* of step 1"):
        best.load(layer(0.0))


# ---- in a run


class Told(StageValidation):
    """Gives told values, and keeps the weights that it was asked about."""

    def __init__(self, values, every, best, seen):
        super().__init__(every, best)
        self._values, self._seen = values, seen

    def measure(self, model, step):
        self._seen.append((step, {name: t.clone() for name, t in model.state_dict().items()}))
        return {"val_told": self._values[len(self._seen) - 1]}


@pytest.fixture
def told(monkeypatch):
    """Replace the validation of all stages; gives a function that sets the values."""
    seen = []

    def set_values(values):
        monkeypatch.setattr(
            "dff_edge.trainer.train.validation_of",
            lambda config, number, _held_out, _folder, best: [
                Told(values, config.stages[number].validate_every, best, seen)
            ],
        )
        return seen

    return set_values


def a_run(steps=8, **changes):
    stage = {"kind": "recognition", **STAGE, "steps": steps, "validate_every": 1, "keep": "best"}
    return tiny_config(data=DATA, stages=[stage | changes])


def test_validation_at_the_start_is_the_first_point_of_the_curve(tmp_path, told):
    told([0.25, 0.125, 0.75])

    train(a_run(steps=4), tmp_path / "run")

    (stage,) = read_curves(tmp_path / "run")
    assert stage.validation == {"val_told": [(0, 0.25), (2, 0.125), (4, 0.75)]}
    assert [step for step, _ in stage.loss] == [2, 4]


def test_checkpoint_has_the_weights_of_the_best_validation(tmp_path, told, caplog):
    caplog.set_level(logging.INFO, "dff_edge.trainer")
    seen = told([0.0, 0.1, 0.7, 0.3, 0.6])

    checkpoint = train(a_run(), tmp_path / "run")

    assert [step for step, _ in seen] == [0, 2, 4, 6, 8]
    best, last = seen[2][1], seen[4][1]
    found = weights(checkpoint)
    assert all(torch.equal(found[name], value) for name, value in best.items())
    assert not all(torch.equal(found[name], value) for name, value in last.items())
    assert "0-recognition: the weights of step 4 are kept, val_told 0.7000" in caplog.text


def test_last_weights_are_kept_where_that_is_set(tmp_path, told):
    seen = told([0.7, 0.1])

    checkpoint = train(a_run(steps=4, keep="last"), tmp_path / "run")

    found = weights(checkpoint)
    assert all(torch.equal(found[name], value) for name, value in seen[-1][1].items())


def test_stage_that_no_longer_improves_ends(tmp_path, told):
    seen = told([0.1, 0.5, 0.4, 0.3, 0.9])

    train(a_run(patience=2), tmp_path / "run")

    assert [step for step, _ in seen] == [0, 2, 4, 6]
    assert len([row for row in metrics(tmp_path / "run" / "0-recognition") if row["loss"]]) == 3


def test_stage_that_makes_nothing_better_leaves_the_weights_as_they_were(tmp_path, told):
    seen = told([0.5, 0.4, 0.4])

    checkpoint = train(a_run(steps=4), tmp_path / "run")

    found = weights(checkpoint)
    assert all(torch.equal(found[name], value) for name, value in seen[0][1].items())


def test_next_stage_starts_from_the_best_and_is_not_ended_with_it(tmp_path, told):
    seen = told([0.0, 0.5, 0.4, 0.0, 0.1, 0.2])
    stage = {**STAGE, "steps": 8, "validate_every": 1, "keep": "best", "patience": 1}
    second = {**stage, "kind": "pairs", "steps": 4, "lr": 1e-12, "batch_norm": "frozen"}
    stages = [{**stage, "kind": "recognition"}, second]

    checkpoint = train(tiny_config(data=DATA, stages=stages), tmp_path / "run")

    assert [step for step, _ in seen] == [0, 2, 4, 0, 2, 4]
    found = weights(checkpoint)
    for name, value in seen[1][1].items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("broken_at", [3, 5])
def test_resumed_run_ends_as_an_unbroken_one(tmp_path, told, monkeypatch, broken_at):
    """Stopped before and after the best validation, of step 4."""
    from tests.trainer.runs import breaking

    told([0.0, 0.1, 0.7, 0.3, 0.6])
    unbroken = weights(train(a_run(patience=2), tmp_path / "unbroken"))

    seen = told([0.0, 0.1, 0.7, 0.3, 0.6])
    seen.clear()
    with monkeypatch.context() as patched:
        breaking(patched, KeyboardInterrupt, "recognition", step=broken_at)
        with pytest.raises(KeyboardInterrupt):
            train(a_run(patience=2), tmp_path / "run")
    resumed = weights(train(a_run(patience=2), tmp_path / "run", resume=True))

    assert all(torch.equal(resumed[name], value) for name, value in unbroken.items())


def test_run_that_was_stopped_after_its_early_end_does_not_train_on(tmp_path, told, monkeypatch):
    told([0.1, 0.5, 0.4, 0.3, 0.9])
    with monkeypatch.context() as patched:
        patched.setattr(BestWeights, "load", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            train(a_run(patience=2), tmp_path / "run")
    seen = told([])
    before = len(seen)

    train(a_run(patience=2), tmp_path / "run", resume=True)

    assert len(seen) == before


@pytest.mark.parametrize(
    ("stage", "data", "message"),
    [
        ({"validate_every": 0}, {}, "keep is 'best' without validations"),
        ({"keep": "last", "patience": 2}, {}, "patience is 2 with keep: last"),
        ({}, {"validate_on": None}, "keep is 'best' without data.validate_on or data.hold_out"),
        ({"kind": "flow"}, {}, "keep is 'best' without data.validate_flow_on"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(stage, data, message):
    with pytest.raises(ValueError, match=message):
        tiny_config(
            data=DATA | data,
            stages=[{"kind": "pairs", **STAGE, "validate_every": 1, "keep": "best"} | stage],
        )
