"""The model configuration: what it builds and what it refuses, by key."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from dff_edge.trainer.models import FlowNetHalf, FlowNetInception
from dff_edge.trainer.models.config import ModelConfig, build_model


def settings(**changes):
    return {
        "task": {"classes": ["road", "car"], "colours": [[128, 64, 128], [0, 0, 142]]},
        "frame_size": [64, 96],
        **changes,
    }


def test_defaults_are_the_papers_largest_and_fastest():
    config = ModelConfig.model_validate(settings())
    with torch.device("meta"):
        model = build_model(config)

    assert config.channels == model.feature.channels == model.flow.channels == 1024
    assert type(model.flow) is FlowNetInception
    assert model.task.score.out_channels == 2


def test_channels_follow_the_feature_network():
    config = ModelConfig.model_validate(settings(feature={"name": "resnet18"}))
    with torch.device("meta"):
        model = build_model(config)

    assert config.channels == model.flow.scale.out_channels == model.task.score.in_channels == 256


def test_every_setting_reaches_the_model():
    config = ModelConfig.model_validate(
        settings(
            feature={"name": "resnet50", "width": 0.5, "channels": 96, "stride_in_1x1": True},
            flow={"name": "half", "width": 0.5, "scale": False},
            mean=[1, 2, 3],
            std=[4, 5, 6],
        )
    )
    model = build_model(config)

    assert model.feature.conv1.out_channels == 32
    assert model.feature.layer2[0].conv1.stride == (2, 2)
    assert model.feature.feat_conv.out_channels == 96
    assert type(model.flow) is FlowNetHalf
    assert model.flow.conv1[0].out_channels == 16
    assert model.flow.scale is None
    assert model.normalize(torch.tensor([5.0, 12.0, 21.0]).view(1, 3, 1, 1)).flatten().tolist() == [
        pytest.approx(value) for value in (1.0, 2.0, 3.0)
    ]


def test_round_trip_through_json():
    config = ModelConfig.model_validate(settings(flow={"width": 0.5}))

    assert ModelConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize(
    ("changes", "key", "message"),
    [
        ({"frame_size": [100, 96]}, "frame_size.0", "multiple of 16"),
        ({"frame_size": [64, 16]}, "frame_size.1", "greater than or equal to 32"),
        ({"feature": {"name": "vgg"}}, "feature.name", "resnet18"),
        ({"feature": {"width": 0}}, "feature.width", "greater than 0"),
        ({"feature": {"width": float("nan")}}, "feature.width", "finite"),
        ({"flow": {"kernel": 3}}, "flow.kernel", "not permitted"),
        ({"std": [1, 0, 1]}, "std.1", "greater than 0"),
        (
            {"feature": {"name": "resnet18", "stride_in_1x1": True}},
            "feature",
            "stride_in_1x1 is true",
        ),
        (
            {"task": {"classes": ["road", "car"], "colours": [[0, 0, 0]]}},
            "task.segmentation",
            "colours has 1 entries, expected 2",
        ),
        (
            {"task": {"classes": ["car", "car"], "colours": [[0, 0, 0]] * 2}},
            "task.segmentation",
            "classes holds a name twice",
        ),
        (
            {"task": {"classes": ["car"], "colours": [[0, 0, 256]]}},
            "task.segmentation.colours.0.2",
            "less than or equal to 255",
        ),
    ],
)
def test_wrong_value_is_refused_by_its_key(changes, key, message):
    with pytest.raises(ValidationError, match=message) as caught:
        ModelConfig.model_validate(settings(**changes))

    assert [".".join(map(str, error["loc"])) for error in caught.value.errors()] == [key]
