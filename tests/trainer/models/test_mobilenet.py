"""MobileNetV2 against torchvision's published facts and the paper's table."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from dff_edge.errors import ConfigError
from dff_edge.trainer.models import MobileNetV2

# torchvision.models.mobilenet_v2 has 3,504,872 parameters and 314 entries; without the classifier
# (1280 x 1000 + 1000, 2 entries) and the last convolution (320 x 1280 + 2 x 1280, 6 entries).
PARAMETERS = 3_504_872 - 1_281_000 - 412_160
ENTRIES = 314 - 2 - 6

# Entries of its state dict, listed by hand.
SHAPES = {
    "features.0.0.weight": (32, 3, 3, 3),
    "features.0.1.running_var": (32,),
    "features.1.conv.0.0.weight": (32, 1, 3, 3),
    "features.1.conv.1.weight": (16, 32, 1, 1),
    "features.1.conv.2.bias": (16,),
    "features.2.conv.0.0.weight": (96, 16, 1, 1),
    "features.2.conv.1.0.weight": (96, 1, 3, 3),
    "features.2.conv.1.1.num_batches_tracked": (),
    "features.2.conv.2.weight": (24, 96, 1, 1),
    "features.2.conv.3.running_mean": (24,),
    "features.14.conv.1.0.weight": (576, 1, 3, 3),
    "features.17.conv.2.weight": (320, 960, 1, 1),
}


@pytest.fixture(scope="module")
def network():
    with torch.device("meta"):
        return MobileNetV2().eval()


def body(state):
    return {key: value for key, value in state.items() if not key.startswith("feat_conv.")}


def test_weights_have_torchvisions_number_names_and_shapes(network):
    state = network.state_dict()

    assert sum(weight.numel() for weight in body(dict(network.named_parameters())).values()) == (
        PARAMETERS
    )
    assert len(body(state)) == ENTRIES
    assert {key: tuple(state[key].shape) for key in SHAPES} == SHAPES
    assert tuple(state["feat_conv.weight"].shape) == (256, 320, 3, 3)


@pytest.mark.parametrize(("frame", "cells"), [((64, 96), (4, 6)), ((63, 97), (4, 7))])
def test_stride_is_16_at_any_size(network, frame, cells):
    features = network(torch.zeros(2, 3, *frame, device="meta"))

    assert tuple(features.shape) == (2, 256, *cells)


def test_last_stages_are_dilated_by_2_and_not_strided(network):
    depthwise = {
        name.split(".")[1]: layer
        for name, layer in network.named_modules()
        if isinstance(layer, nn.Conv2d) and layer.groups > 1
    }

    assert {n for n, layer in depthwise.items() if layer.dilation == (2, 2)} == {
        "14",
        "15",
        "16",
        "17",
    }
    assert {n for n, layer in depthwise.items() if layer.stride == (2, 2)} == {"2", "4", "7"}


def test_blocks_of_equal_maps_have_a_shortcut():
    """A block whose own path gives nothing is the identity where Table 2 repeats it."""
    network = MobileNetV2(width=0.25, channels=8).eval()
    steps = dict(network.blocks())
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.zeros_(layer.weight)
    maps = torch.rand(1, 16, 4, 4)  # 64 kernels at a quarter of the width

    assert torch.equal(steps["features.8"](maps), maps)
    assert not steps["features.11"](maps).any()  # 64 to 96 kernels


def test_impossible_sizes_are_refused():
    with pytest.raises(ConfigError, match="channels is 0, expected at least 1"):
        MobileNetV2(channels=0)
    with pytest.raises(ConfigError, match=r"width is 0\.0, expected a positive number"):
        MobileNetV2(width=0.0)
