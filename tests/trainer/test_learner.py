"""One stage: what it trains and what it leaves alone, its rate, its order of items."""

import math

import pytest
import torch

from dff_edge.errors import ConfigError
from dff_edge.trainer.config import StageConfig
from dff_edge.trainer.data import SyntheticPairs
from dff_edge.trainer.learner import Learner, StepSampler, rate
from dff_edge.trainer.models import build_model
from tests.trainer.tiny import tiny_config

TRAINED = {
    "recognition": ("feature.", "task."),
    "flow": ("flow.",),
    "pairs": ("feature.", "task.", "flow."),
}
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


@pytest.fixture(autouse=True)
def _seed():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(20171)
        yield


@pytest.fixture(scope="module")
def batch():
    pairs = SyntheticPairs(seed=1, frame_size=(32, 64), length=1, group=4, max_distance=3)
    return pairs[0]


def stage(kind, **changes):
    return StageConfig.model_validate({"kind": kind, "steps": 10, "lr": 0.01} | changes)


def learner_of(model, kind, **changes):
    learner = Learner(model, stage(kind, **changes), None, group=4, workers=0)
    learner.log = lambda *_arguments, **_options: None  # there is no trainer to log to
    return learner


def trained(learner, batch, steps):
    """Run the steps as lightning does, without lightning; return the loss of each step."""
    learner.on_train_epoch_start()
    optimizer = learner.configure_optimizers()["optimizer"]
    losses = []
    for _ in range(steps):
        loss = learner.training_step(batch, 0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def snapshot(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def changed(model, before):
    return {name for name, value in model.state_dict().items() if not value.equal(before[name])}


# ---- what is trained


@pytest.mark.parametrize("kind", TRAINED)
def test_stage_trains_its_networks_and_leaves_the_others_to_the_bit(model, batch, kind):
    before = snapshot(model)

    trained(learner_of(model, kind, weight_decay=0.1), batch, 2)

    now = changed(model, before)
    assert {name for name in before if not name.startswith(TRAINED[kind])}.isdisjoint(now)
    for prefix in TRAINED[kind]:
        weights = {name for name in before if name.startswith(prefix) and name.endswith("weight")}
        assert len(weights & now) > 0.9 * len(weights) - 2
    statistics = {name for name in before if name.endswith(STATISTICS)}
    assert statistics & now == {name for name in statistics if name.startswith(TRAINED[kind])}


@pytest.mark.parametrize(
    ("fixed", "left"),
    [(("feature", "task"), ("flow.",)), (("flow",), ("feature.", "task.")), (("task",), ("f",))],
    ids=["fix N", "fix F", "fix task"],
)
def test_fixed_networks_stay_to_the_bit_in_training_on_pairs(model, batch, fixed, left):
    """Table 3's "DFF fix N" and "DFF fix F": weights, statistics and gradients."""
    before = snapshot(model)
    learner = learner_of(model, "pairs", fixed=fixed, weight_decay=0.1)

    trained(learner, batch, 2)

    now = changed(model, before)
    statistics = {name for name in before if name.endswith(STATISTICS)}
    expected = {
        name
        for name in before
        if name.startswith(left) and not name.startswith("flow.predict_flow")
    }
    assert {name for name in now if not name.startswith(left)} == set()
    assert statistics & now == statistics & expected
    weights = {name for name in expected if name.endswith("weight")}
    assert weights - now <= {"flow.scale.weight"} | {n for n in weights if "bn" in n}
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad == (name in expected), name
    for name in fixed:
        assert not model.get_submodule(name).training


@pytest.mark.parametrize("kind", ["recognition", "pairs"])
def test_fixed_layers_stay_to_the_bit(model, batch, kind):
    """The official code's conv1 and res2."""
    before = snapshot(model)
    learner = learner_of(model, kind, fixed_layers=["feature.conv1", "feature.layer1"])

    trained(learner, batch, 2)

    now = changed(model, before)
    left = ("feature.conv1.", "feature.layer1.")
    assert not {name for name in now if name.startswith(left)}
    assert {
        "feature.bn1.weight",
        "feature.bn1.running_mean",
        "feature.layer2.0.conv1.weight",
    } <= now


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("feature", "fixed_layers has 'feature', expected a layer of a network, feature. and one"),
        ("feature.layer9", "one of conv1, bn1, "),
        ("neck.conv1", "'neck.conv1', expected a layer of a network, .*feature"),
    ],
)
def test_fixed_layers_that_are_not_there_are_refused(model, path, message):
    with pytest.raises(ConfigError, match=message):
        learner_of(model, "pairs", fixed_layers=[path])


def test_fixed_layers_that_leave_nothing_to_train_are_refused(model):
    layers = [f"task.{name}" for name, _ in model.task.named_children()]

    with pytest.raises(ConfigError, match=r"fixed_layers is .*, expected a layer left to train"):
        learner_of(model, "pairs", fixed=["feature", "flow"], fixed_layers=layers)


def test_networks_that_rest_are_in_evaluation_mode(model):
    learner = learner_of(model, "flow")

    learner.on_train_epoch_start()

    assert model.flow.training
    assert not model.feature.training
    assert not model.task.training


@pytest.mark.parametrize("flow", ["inception", "half"])
@pytest.mark.parametrize("kind", [*TRAINED, "distil"])
def test_every_trained_parameter_gets_a_gradient(batch, kind, flow):
    """DDP waits for ever for those that get none."""
    config = tiny_config().model.model_dump() | {"flow": {"name": flow, "width": 0.25}}
    model = build_model(type(tiny_config().model).model_validate(config))
    learner = learner_of(model, kind)
    learner.on_train_epoch_start()

    learner.training_step(batch, 0).backward()

    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
    assert any(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize(
    ("kind", "names"),
    [("correction", ("correction.",)), ("pairs", ("feature.", "task.", "flow.", "correction."))],
)
def test_a_correction_network_is_trained_by_itself_and_in_pairs(batch, kind, names):
    model = corrected_model()
    before = snapshot(model)

    trained(learner_of(model, kind), batch, 2)

    assert {name.split(".")[0] + "." for name in changed(model, before)} == set(names)


def test_a_stage_of_correction_learns_without_features(batch):
    """Loss of the score maps that are all zero: log K; the first step computes it."""
    losses = trained(learner_of(corrected_model(), "correction"), batch, 6)

    assert losses[0] == pytest.approx(math.log(len(tiny_config().model.task.classes)), abs=1e-5)
    assert losses[-1] < 0.9 * losses[0]


def test_distillation_adds_the_divergence_from_the_per_frame_scores(batch):
    model = build_model(tiny_config().model)
    torch.nn.init.normal_(model.task.score.weight)
    learner = learner_of(model, "pairs", distil=2.5)
    plain = learner_of(model, "pairs")
    learner.on_train_epoch_start()
    model.eval()  # BatchNorm alike in both

    with torch.no_grad():
        found, expected = learner.training_step(batch, 0), plain.training_step(batch, 0)
        key, current = (batch[name].float() for name in ("key", "current"))
        target = model.recognize(current).softmax(1)
        divergence = target * (target.log() - model(key, current, batch["same"]).log_softmax(1))
    added = 2.5 * divergence.sum(1).mean()
    assert found.item() == pytest.approx((expected + added).item(), rel=1e-5)
    assert added > 1e-4


def unlabelled(batch):
    return {name: batch[name] for name in ("key", "current", "same", "flow_px")}


def test_distillation_trains_flow_and_correction_without_labels(batch):
    model = corrected_model()
    torch.nn.init.normal_(model.task.score.weight)
    before = snapshot(model)

    losses = trained(learner_of(model, "distil", lr=0.003), unlabelled(batch), 12)

    assert {name.partition(".")[0] for name in changed(model, before)} == {"flow", "correction"}
    assert losses[-1] < 0.8 * losses[0]


def test_nothing_is_left_to_distil_where_a_pair_is_one_frame(batch):
    model = build_model(tiny_config().model)
    torch.nn.init.normal_(model.task.score.weight)
    learner = learner_of(model, "distil")
    learner.on_train_epoch_start()
    one_frame = unlabelled(batch) | {"same": torch.ones(4, dtype=torch.bool)}
    one_frame["key"] = one_frame["current"]

    assert learner.training_step(one_frame, 0).item() == pytest.approx(0, abs=1e-6)


def corrected_model():
    config = tiny_config().model.model_dump() | {"correction": {"width": 0.25, "channels": 8}}
    return build_model(type(tiny_config().model).model_validate(config))


def test_next_stage_trains_what_the_last_one_left_out(model, batch):
    learner_of(model, "flow")
    learner_of(model, "pairs")

    assert model.flow.scale.weight.requires_grad
    assert not model.flow.predict_flow["5"].weight.requires_grad


def test_frozen_batch_norm_stays_to_the_bit(model, batch):
    before = snapshot(model)
    names = {
        f"{name}.{key}"
        for name, layer in model.named_modules()
        if isinstance(layer, torch.nn.BatchNorm2d)
        for key in layer.state_dict()
    }

    trained(learner_of(model, "pairs", batch_norm="frozen"), batch, 2)

    now = changed(model, before)
    assert names
    assert names.isdisjoint(now)
    assert "feature.conv1.weight" in now


def test_frozen_batch_norm_uses_its_statistics(model, batch):
    learner = learner_of(model, "recognition", batch_norm="frozen")
    learner.on_train_epoch_start()

    loss = learner.training_step(batch, 0)

    model.eval()
    assert loss.item() == pytest.approx(learner.training_step(batch, 0).item(), rel=1e-6)


def test_weight_decay_is_on_weights_only(model):
    optimizer = learner_of(model, "pairs", weight_decay=0.1).configure_optimizers()["optimizer"]

    decay = {id(p): g["weight_decay"] for g in optimizer.param_groups for p in g["params"]}
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert decay == {id(p): 0.1 if p.ndim == 4 else 0.0 for p in trained}


def test_layers_below_the_neck_may_have_a_rate_of_their_own(model):
    learner = learner_of(model, "pairs", lr=0.5, body_rate=0.1, warmup=0.0)

    optimizer = learner.configure_optimizers()["optimizer"]

    rates = {id(p): g["lr"] for g in optimizer.param_groups for p in g["params"]}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            is_body = name.startswith("feature.") and not name.startswith("feature.feat_conv.")
            assert rates[id(parameter)] == pytest.approx(0.05 if is_body else 0.5), name


@pytest.mark.parametrize(("name", "kind"), [("sgd", torch.optim.SGD), ("adamw", torch.optim.AdamW)])
def test_optimizer_is_the_one_asked_for(model, name, kind):
    learner = learner_of(model, "pairs", optimizer=name, momentum=0.8)

    optimizer = learner.configure_optimizers()["optimizer"]

    assert isinstance(optimizer, kind)
    assert optimizer.defaults.get("momentum", 0.8) == 0.8


@pytest.mark.parametrize("kind", TRAINED)
def test_loss_falls_on_a_few_pairs(model, batch, kind):
    losses = trained(learner_of(model, kind), batch, 25)

    assert min(losses[-3:]) < 0.6 * losses[0]


def test_class_weights_reach_the_loss(model, batch):
    plain, one_class = (
        learner_of(model, "recognition", class_weights=weights)
        for weights in (None, [1.0] + [0.0] * 7)
    )
    model.eval()
    scores = model.recognize(batch["current"].float())
    full = torch.nn.functional.interpolate(scores, size=(32, 64), mode="bilinear")
    sky = batch["labels"] == 0
    expected = -full.log_softmax(1)[:, 0][sky].mean()

    loss = one_class.training_step(batch, 0)

    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert loss.item() != pytest.approx(plain.training_step(batch, 0).item(), rel=1e-3)
    assert not any("class_weights" in name for name in one_class.state_dict())


def test_loss_that_is_not_finite_is_refused(model, batch):
    learner = learner_of(model, "recognition")
    with torch.no_grad():
        model.feature.conv1.weight.fill_(float("nan"))

    with pytest.raises(ConfigError, match=r"loss became nan at step 0 of stage 'recognition' wi"):
        learner.training_step(batch, 0)


# ---- rate


def rates(**changes):
    configured = stage("pairs", **changes)
    return [rate(configured, step) for step in range(configured.steps)]


def test_cosine_rate_by_hand():
    quarter = math.cos(math.pi / 4)

    assert rates(steps=10, warmup=0.2) == pytest.approx(
        [
            0.5,
            1.0,
            1.0,
            0.5 * (1 + math.cos(math.pi / 8)),
            0.5 * (1 + quarter),
            0.5 * (1 + math.cos(3 * math.pi / 8)),
            0.5,
            0.5 * (1 - math.cos(3 * math.pi / 8)),
            0.5 * (1 - quarter),
            0.5 * (1 - math.cos(math.pi / 8)),
        ]
    )


def test_step_rate_by_hand():
    by_hand = [1.0] * 4 + [0.1] * 4 + [0.01] * 2

    assert rates(warmup=0, schedule="step", milestones=[0.4, 0.8]) == pytest.approx(by_hand)


def test_constant_rate_by_hand():
    assert rates(warmup=0.3, schedule="constant") == pytest.approx([1 / 3, 2 / 3] + [1.0] * 8)


def test_no_warm_up_starts_at_the_full_rate():
    assert rates(warmup=0)[0] == 1.0


def test_rate_after_the_last_step_is_zero_and_not_negative():
    assert rate(stage("pairs", warmup=0), 10) == pytest.approx(0)
    assert rate(stage("pairs", warmup=0), 11) == pytest.approx(0)


# ---- order


def test_epochs_go_on_where_the_last_one_ended():
    sampler = StepSampler(6, rank=0, world=1)
    seen = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        seen += sampler

    assert seen == list(range(18))
    assert len(sampler) == 6


def test_devices_share_the_items_of_a_step():
    samplers = [StepSampler(6, rank, world=3) for rank in range(3)]
    for sampler in samplers:
        sampler.set_epoch(2)

    assert [list(sampler) for sampler in samplers] == [[12, 15], [13, 16], [14, 17]]
    assert [len(sampler) for sampler in samplers] == [2, 2, 2]
