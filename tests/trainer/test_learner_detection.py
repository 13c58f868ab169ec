"""Stages of training with R-FCN: what they learn, and that every network learns from them."""

import pytest
import torch

from dff_edge.errors import ConfigError
from dff_edge.trainer.config import StageConfig, TrainConfig
from dff_edge.trainer.data import PairBatch
from dff_edge.trainer.learner import Learner
from dff_edge.trainer.models import build_model
from tests.trainer.tiny import tiny_dict

FRAME_SIZE = (64, 96)
TASK = {
    "name": "detection",
    "classes": ["disc", "bar"],
    "colours": [[255, 0, 0], [0, 255, 0]],
    "rfcn": {"bins": 3, "anchor_scales": [1, 2], "proposals": 30},
}
LOSSES = ("rpn_class_loss", "rpn_box_loss", "classification_loss", "box_loss")


def detection_dict(**changes):
    raw = tiny_dict(**changes)
    raw["model"] |= {"task": TASK, "frame_size": list(FRAME_SIZE)}
    return raw


@pytest.fixture
def model():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(20171)
        return build_model(TrainConfig.model_validate(detection_dict()).model)


@pytest.fixture(scope="module")
def batch():
    """Bright rectangles on grey that move by 4 px; the third frame is empty, the last pair one."""
    boxes = [
        torch.tensor([[8.0, 8, 28, 28], [50, 20, 90, 40]]),
        torch.tensor([[60.0, 30, 80, 50]]),
        torch.zeros(0, 4),
        torch.tensor([[10.0, 12, 50, 32], [60, 30, 80, 50]]),
    ]
    labels = [torch.tensor(n, dtype=torch.int64) for n in ([0, 1], [0], [], [1, -1])]
    current = torch.full((4, 3, *FRAME_SIZE), 90, dtype=torch.uint8)
    for frame, in_frame in zip(current, boxes, strict=True):
        for x1, y1, x2, y2 in in_frame.int().tolist():
            frame[:, y1:y2, x1:x2] = 220
    key = current.roll(4, dims=3)
    key[3] = current[3]
    return PairBatch(
        key=key,
        current=current,
        same=torch.tensor([False, False, False, True]),
        flow_px=torch.full((4, 2, 8, 12), float("nan")),
        boxes=boxes,
        box_labels=labels,
    )


def learner_of(model, kind, **changes):
    stage = StageConfig.model_validate({"kind": kind, "steps": 10, "lr": 0.01} | changes)
    learner = Learner(model, stage, None, group=4, workers=0)
    learner.logged = []
    learner.log = lambda name, *_arguments, **_options: learner.logged.append(name)
    return learner


def test_distillation_compares_the_learned_maps_and_needs_no_boxes(model, batch):
    learner = learner_of(model, "distil")
    learner.on_train_epoch_start()
    model.eval()
    pairs = {name: batch[name] for name in ("key", "current", "same", "flow_px")}

    loss = learner.training_step(pairs, 0)

    key, current = (batch[name].float() for name in ("key", "current"))
    with torch.no_grad():
        found = torch.cat(tuple(model(key, current, batch["same"])), dim=1)
        wanted = torch.cat(tuple(model.recognize(current)), dim=1)
    error = (found - wanted).square().mean((0, 2, 3))
    variance = wanted.var((0, 2, 3), correction=0)
    assert loss.item() == pytest.approx((error / (variance + 1e-6)).mean().item(), rel=1e-5)
    assert loss > 1e-3


@pytest.mark.parametrize("kind", ["recognition", "pairs"])
def test_loss_falls_on_a_few_frames(model, batch, kind):
    learner = learner_of(model, kind)
    learner.on_train_epoch_start()
    optimizer = learner.configure_optimizers()["optimizer"]
    losses = []
    for _ in range(25):
        loss = learner.training_step(batch, 0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())

    assert min(losses[-3:]) < 0.5 * losses[0]
    assert learner.logged[:5] == [*LOSSES, "loss"]


def test_gradient_reaches_all_three_networks_through_the_maps(model, batch):
    learner = learner_of(model, "pairs")
    learner.on_train_epoch_start()

    learner.training_step(batch, 0).backward()

    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
    for layer in (model.feature.conv1, model.flow.flow, model.task.class_maps, model.task.deltas):
        assert layer.weight.grad.any()


def test_pairs_of_one_frame_are_single_frames(model, batch):
    """Their flow network counts for nothing: the loss is that of the frames alone."""
    model.eval()  # BatchNorm of a batch would see other frames
    same = PairBatch({**batch, "same": torch.ones(4, dtype=torch.bool), "key": batch["current"]})

    single = learner_of(model, "recognition").training_step(batch, 0)

    assert learner_of(model, "pairs").training_step(same, 0).item() == pytest.approx(single.item())
    assert learner_of(model, "pairs").training_step(batch, 0).item() != pytest.approx(single.item())


def test_number_of_hard_examples_reaches_the_loss(model, batch):
    """The hardest few are harder than the many."""
    model.eval()
    few, many = (
        learner_of(model, "recognition", hard_examples=n).training_step(batch, 0) for n in (1, 99)
    )

    assert few > many


def test_sampled_anchors_follow_the_step(model, batch, monkeypatch):
    monkeypatch.setattr("dff_edge.trainer.detection.targets._SAMPLED", 9)
    model.eval()
    learner = learner_of(model, "recognition")

    def loss_at(step):
        monkeypatch.setattr(Learner, "global_step", step)
        return learner.training_step(batch, 0).item()

    first = loss_at(5)
    assert loss_at(6) != first
    assert loss_at(5) == first


def test_loss_that_is_not_finite_is_refused(model, batch):
    learner = learner_of(model, "recognition")
    with torch.no_grad():
        model.feature.conv1.weight.fill_(float("nan"))

    with pytest.raises(ConfigError, match="loss became nan at step 0"):
        learner.training_step(batch, 0)


def test_class_weights_are_refused():
    raw = detection_dict()
    raw["stages"][0]["class_weights"] = [1, 2]

    with pytest.raises(ValueError, match=r"stages\.0\.class_weights is given, expected none for d"):
        TrainConfig.model_validate(raw)


def test_odd_channels_are_refused():
    raw = detection_dict()
    raw["model"]["feature"]["channels"] = 9

    with pytest.raises(ValueError, match=r"feature\.channels is 9, expected an even number for de"):
        TrainConfig.model_validate(raw)
