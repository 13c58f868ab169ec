"""The neck that all feature networks share."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from dff_edge.trainer.models import MobileNetV2, ResNet
from dff_edge.trainer.models.feature import dilate


def networks(**options):
    torch.manual_seed(2)
    return (
        MobileNetV2(width=0.25, channels=8, **options).eval(),
        ResNet("resnet18", width=0.125, channels=8, **options).eval(),
    )


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (32, [(2, 1, 8), (2, 1, 16), (1, 1, 16), (2, 1, 32)]),
        (16, [(2, 1, 8), (2, 1, 16), (1, 1, 16), (1, 2, 16)]),
        (8, [(2, 1, 8), (1, 2, 8), (1, 2, 8), (1, 4, 8)]),
    ],
)
def test_strides_beyond_the_limit_become_dilation(limit, expected):
    assert [tuple(stage) for stage in dilate([2, 2, 1, 2], 4, limit)] == expected


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("stride", [8, 16])
def test_pyramid_is_the_sum_of_its_levels(number, stride):
    """Each coarser level is brought to the next finer one and added, from the last maps on."""
    network = networks(neck="pyramid", stride=stride)[number]
    frame = torch.randn(1, 3, 64, 128)

    with torch.no_grad():
        maps, last = frame, {}
        for _, step in network.body():
            maps = step(maps)
            last[64 // maps.shape[2]] = maps
        top = network.lateral[-1](last[32])
        for place, finer in enumerate(s for s in (16, 8) if s >= stride):
            conv, norm = network.doubling[-1 - place]
            blocks = torch.einsum("nchw,cdyx->ndhywx", top.relu(), conv.weight)
            doubled = norm(blocks.reshape(1, 96, 64 // finer, 128 // finer))
            top = network.lateral[-2 - place](last[finer]) + doubled
        expected = F.conv2d(top.relu(), network.feat_conv.weight, network.feat_conv.bias, padding=1)
        found = network(frame)

    torch.testing.assert_close(found, expected.relu())


@pytest.mark.parametrize("number", [0, 1])
def test_everything_but_the_neck_is_the_body(number):
    network = networks(neck="pyramid", stride=8)[number]
    in_body = {id(p) for p in network.body_parameters()}

    neck = {name.split(".")[0] for name, p in network.named_parameters() if id(p) not in in_body}

    assert neck == {"lateral", "doubling", "feat_conv"}
    assert [name for name, _ in network.blocks()] == ["pyramid", "feat_conv"]
