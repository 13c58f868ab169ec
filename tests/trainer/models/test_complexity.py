"""The counter against sums done by hand, and the networks against Table 2."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from dff_edge.errors import ConfigError
from dff_edge.trainer.models import (
    ResNet,
    approximate_cost_ratio,
    build_flow_network,
    cost_ratio,
    feature_macs,
    flow_macs,
    macs,
    speedup,
)
from dff_edge.trainer.models.config import ModelConfig, build_model

FRAME = (512, 1024)

# Table 2 of the paper, 1 / r, and how near we must come. FlowNet Inception is our own.
TABLE_2 = [
    ("resnet50", "simple", 9.20, 0.05),
    ("resnet50", "half", 33.56, 0.05),
    ("resnet50", "inception", 68.97, 0.10),
    ("resnet101", "simple", 12.71, 0.05),
    ("resnet101", "half", 46.30, 0.05),
    ("resnet101", "inception", 95.24, 0.10),
]


def on_meta(build, *arguments, **options):
    with torch.device("meta"):
        return build(*arguments, **options)


@pytest.mark.parametrize(("feature", "flow", "inverse_ratio", "tolerance"), TABLE_2)
def test_table_2_comes_out(feature, flow, inverse_ratio, tolerance):
    ratio = approximate_cost_ratio(
        on_meta(ResNet, feature), on_meta(build_flow_network, flow, 1024), FRAME
    )

    assert 1 / ratio == pytest.approx(inverse_ratio, rel=tolerance)


@pytest.mark.parametrize(
    ("feature", "flow", "inverse_ratio"),
    [
        ("resnet50", "simple", 9.49),
        ("resnet101", "simple", 13.04),
        ("resnet50", "half", 34.55),
        ("resnet101", "half", 47.50),
    ],
)
def test_the_specified_networks_cost_what_the_design_says(feature, flow, inverse_ratio):
    ratio = approximate_cost_ratio(
        on_meta(ResNet, feature), on_meta(build_flow_network, flow, 1024), FRAME
    )

    assert 1 / ratio == pytest.approx(inverse_ratio, abs=0.005)


def test_inception_costs_one_and_a_half_gmac_with_its_scale_head():
    flow = on_meta(build_flow_network, "inception", 1024)

    assert flow_macs(flow, FRAME) == pytest.approx(1.50e9, rel=0.10)


def test_convolution_is_counted_as_by_hand():
    layer = nn.Conv2d(6, 10, 3, stride=2, padding=1)

    assert macs(layer, (2, 6, 9, 11)) == 2 * 10 * 5 * 6 * (6 * 3 * 3)


def test_transposed_convolution_is_counted_as_by_hand():
    layer = nn.ConvTranspose2d(6, 10, 4, stride=2, padding=1)

    assert macs(layer, (1, 6, 5, 7)) == 5 * 7 * (6 * 10 * 4 * 4)


def test_resnet50_costs_its_published_4_gmac_without_our_changes():
    # The stem and the first three stages are untouched: 3.27 of the 4.09 published GMAC at
    # 224 x 224 are theirs; the rest is conv5, 0.81, and fc, 0.002.
    network = on_meta(ResNet, "resnet50", channels=1)

    cells = 14 * 14
    conv5 = cells * (512 * (1024 + 2048 + 2048) + 3 * 512 * 512 * 9 + 3 * 512 * 2048 + 1024 * 2048)
    feat_conv = cells * 2048 * 9
    untouched = feature_macs(network, (224, 224)) - conv5 - feat_conv

    assert untouched == pytest.approx(4.09e9 - 0.81e9 - 0.002e9, rel=0.005)


def test_counting_leaves_the_module_alone():
    network = ResNet("resnet18", width=0.125, channels=8)
    before = network.bn1.running_mean.clone()

    macs(network, (1, 3, 32, 32))

    assert network.training
    assert network.conv1.weight.device.type == "cpu"
    assert torch.equal(network.bn1.running_mean, before)


def test_eq_5_adds_warp_and_task_network():
    config = ModelConfig.model_validate(
        {
            "task": {"classes": ["road", "car"], "colours": [[0, 0, 0]] * 2},
            "frame_size": FRAME,
        }
    )
    model = on_meta(build_model, config)
    features = 1024 * 32 * 64

    ratio = cost_ratio(model, FRAME)

    feature, flow = feature_macs(model.feature, FRAME), flow_macs(model.flow, FRAME)
    assert ratio == (flow + 5 * features + 2 * features) / (feature + 2 * features)
    assert ratio > approximate_cost_ratio(model.feature, model.flow, FRAME)


@pytest.mark.parametrize(
    ("interval", "ratio", "expected"),
    [(1, 0.3, 1.0), (10, 0.0, 10.0), (10, 1.0, 1.0), (5, 0.25, 2.5)],
)
def test_eq_7_by_hand(interval, ratio, expected):
    assert speedup(interval, ratio) == expected


@pytest.mark.parametrize(("interval", "ratio"), [(0, 0.1), (5, -0.1), (5, float("nan"))])
def test_speedup_of_impossible_values_is_refused(interval, ratio):
    with pytest.raises(ConfigError, match="expected at least 1 and at least 0"):
        speedup(interval, ratio)
