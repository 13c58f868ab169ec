"""Split points of the task network: same results per frame, other maps propagated."""

from __future__ import annotations

import pytest
import torch

from dff_edge.trainer.models import (
    ModelConfig,
    build_model,
    cost_ratio,
    feature_macs,
    flow_macs,
    task_layers,
)
from dff_edge.trainer.models.config import split_points

RFCN = {"bins": 2, "anchor_scales": (1, 2), "anchor_ratios": (1,)}
# Of two classes: 2 + 4 * 2 + 4 * 3 + 4 * 4.
RFCN_MAPS = 38
# Steps of the tiny networks with the channels that they read.
SPLITS = {
    "resnet18": {"head": 8, "feat_conv": 64, "layer4.1": 64, "layer4.0": 32, "layer3.1": 32},
    "mobilenet_v2": {"head": 8, "feat_conv": 40, "features.17": 24, "features.9": 8},
}
CASES = [(name, split) for name, splits in SPLITS.items() for split in (*splits, "none")]


def config_of(feature="resnet18", split="head", task="segmentation", **flow):
    return ModelConfig.model_validate(
        {
            "feature": {"name": feature, "width": 0.125, "channels": 8},
            "flow": {"name": "inception", "width": 0.25} | flow,
            "task": {
                "name": task,
                "classes": ["road", "car"],
                "colours": [[0, 0, 0]] * 2,
                **({"rfcn": RFCN} if task == "detection" else {}),
            },
            "split": split,
            "frame_size": [32, 64],
        }
    )


@pytest.fixture(autouse=True)
def _seed():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        yield


@pytest.fixture(scope="module", params=["segmentation", "detection"])
def task(request):
    return request.param


def tensors_of(answer):
    return [answer] if isinstance(answer, torch.Tensor) else list(answer)


@pytest.mark.parametrize(("feature", "split"), CASES)
def test_per_frame_results_are_the_same_wherever_it_is_split(feature, split, task):
    """Weights of one split load into another; only the scale head follows the width."""
    whole = build_model(config_of(feature, task=task)).eval()
    config = config_of(feature, split, task)
    model = build_model(config).eval()
    model.feature.load_state_dict(whole.feature.state_dict())
    model.task.load_state_dict(whole.task.state_dict())
    frame = torch.rand(1, 3, 32, 64) * 255

    with torch.no_grad():
        features = model.extract(frame)
        found, expected = model.recognize(frame), whole.recognize(frame)
        # A frame that is its own key frame, carried by no flow and a scale of one.
        torch.nn.init.zeros_(model.flow.flow.weight)
        carried = model(frame, frame)

    none = RFCN_MAPS if task == "detection" else 2
    channels = SPLITS[feature].get(split, none)
    assert tuple(features.shape) == (1, channels, 2, 4)
    assert config.channels == channels == model.flow.scale.out_channels
    for one, other, third in zip(*map(tensors_of, (found, expected, carried)), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
        torch.testing.assert_close(third, other, rtol=0, atol=1e-6)


def test_layers_are_counted_as_in_table_5_of_the_paper():
    config = ModelConfig.model_validate(
        {
            "task": {"classes": ["road"], "colours": [[0, 0, 0]]},
            "frame_size": [512, 1024],
        }
    )
    with torch.device("meta"):
        model = build_model(config)

    counted = {}
    for split in ("none", "head", "layer4.2", "layer4.0", "layer3.20"):
        model.split = split
        counted[split] = task_layers(model)

    assert list(counted.values()) == [0, 1, 5, 12, 21]


def test_eq_5_counts_what_runs_on_every_frame():
    """By hand: 2 x 4 cells, feat_conv of 3 x 3 x 64 x 8, two score maps of 8 channels."""
    feat_conv, head, size = 9 * 64 * 8 * 8, 2 * 8 * 8, (32, 64)

    for split, channels, moved in (
        ("none", 2, 0),
        ("head", 8, head),
        ("feat_conv", 64, feat_conv + head),
    ):
        model = build_model(config_of(split=split))
        flow, feature = flow_macs(model.flow, size), feature_macs(model.feature, size)
        expected = (flow + 5 * channels * 8 + moved) / (feature + head)
        assert cost_ratio(model, size) == pytest.approx(expected, rel=1e-12)


def test_points_are_the_steps_at_stride_16():
    points = split_points(config_of().feature)

    assert points == {"layer3.1": 32, "layer4.0": 32, "layer4.1": 64, "feat_conv": 64}


@pytest.mark.parametrize("split", ["layer3.0", "stem", "layer9.0", ""])
def test_a_step_that_cannot_be_split_at_is_refused(split):
    with pytest.raises(
        ValueError, match=f"split is '{split}', expected 'head', 'none', or one .* layer3.1, lay"
    ):
        config_of(split=split)


@pytest.mark.parametrize("scale", [True, False], ids=["scale", "no-scale"])
@pytest.mark.parametrize("flow", ["simple", "half", "inception"])
@pytest.mark.parametrize("split", ["none", "head", "layer4.1"])
def test_flow_gets_a_gradient_through_any_task_network(split, flow, scale):
    model = build_model(config_of(split=split, name=flow, width=0.25, scale=scale))
    torch.nn.init.normal_(model.flow.flow.weight, std=0.1)

    model(*(torch.rand(2, 2, 3, 32, 64) * 255)).square().sum().backward()

    heads = [model.flow.flow, model.task.score, model.feature.conv1, model.feature.feat_conv]
    for layer in heads + ([model.flow.scale] if scale else []):
        assert layer.weight.grad.any()
