"""The feature network against torchvision's published facts and the paper's text."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from dff_edge.errors import ConfigError
from dff_edge.trainer.models import ResNet

# Of torchvision.models.resnet*, without fc.
PARAMETERS = {"resnet18": 11_176_512, "resnet50": 23_508_032, "resnet101": 42_500_160}

# Entries of torchvision's state dicts, listed by hand.
RESNET18_SHAPES = {
    "conv1.weight": (64, 3, 7, 7),
    "bn1.running_var": (64,),
    "layer1.0.conv1.weight": (64, 64, 3, 3),
    "layer1.1.bn2.weight": (64,),
    "layer2.0.conv1.weight": (128, 64, 3, 3),
    "layer2.0.downsample.0.weight": (128, 64, 1, 1),
    "layer2.0.downsample.1.num_batches_tracked": (),
    "layer4.1.conv2.weight": (512, 512, 3, 3),
}
RESNET50_SHAPES = {
    "conv1.weight": (64, 3, 7, 7),
    "layer1.0.conv1.weight": (64, 64, 1, 1),
    "layer1.0.conv2.weight": (64, 64, 3, 3),
    "layer1.0.conv3.weight": (256, 64, 1, 1),
    "layer1.0.downsample.0.weight": (256, 64, 1, 1),
    "layer1.0.downsample.1.running_mean": (256,),
    "layer1.2.bn3.bias": (256,),
    "layer2.3.conv1.weight": (128, 512, 1, 1),
    "layer3.5.conv3.weight": (1024, 256, 1, 1),
    "layer4.0.downsample.0.weight": (2048, 1024, 1, 1),
    "layer4.2.conv2.weight": (512, 512, 3, 3),
    "layer4.2.bn3.running_var": (2048,),
}
# Without fc, which has two: torchvision's have 122, 320 and 626 entries.
ENTRIES = {"resnet18": 120, "resnet50": 318, "resnet101": 624}


def on_meta(name, **options):
    with torch.device("meta"):
        return ResNet(name, **options)


def small(**options):
    return ResNet("resnet18", width=0.125, channels=8, **options).eval()


@pytest.mark.parametrize("name", sorted(PARAMETERS))
def test_parameters_number_as_in_torchvision(name):
    network = on_meta(name)

    counted = sum(
        weight.numel()
        for key, weight in network.named_parameters()
        if not key.startswith("feat_conv.")
    )

    assert counted == PARAMETERS[name]


@pytest.mark.parametrize("name", sorted(ENTRIES))
def test_state_dict_has_as_many_entries_as_torchvisions(name):
    keys = [key for key in on_meta(name).state_dict() if not key.startswith("feat_conv.")]

    assert len(keys) == ENTRIES[name]


@pytest.mark.parametrize(
    ("name", "shapes"), [("resnet18", RESNET18_SHAPES), ("resnet50", RESNET50_SHAPES)]
)
def test_weights_have_torchvisions_names_and_shapes(name, shapes):
    state = on_meta(name).state_dict()

    assert {key: tuple(state[key].shape) for key in shapes} == shapes


@pytest.mark.parametrize(("name", "channels"), [("resnet18", 256), ("resnet50", 1024)])
def test_features_have_the_default_channels(name, channels):
    network = on_meta(name)

    assert network.channels == channels
    assert tuple(network.feat_conv.weight.shape[:1]) == (channels,)


@pytest.mark.parametrize(
    ("frame", "cells"),
    [((64, 96), (4, 6)), ((63, 97), (4, 7)), ((65, 33), (5, 3)), ((16, 16), (1, 1))],
)
def test_stride_is_16_at_any_size(frame, cells):
    features = small()(torch.zeros(2, 3, *frame))

    assert tuple(features.shape) == (2, 8, *cells)


def test_conv5_is_dilated_by_2_and_not_strided():
    layer4 = on_meta("resnet50").layer4
    convolutions = [layer for layer in layer4.modules() if isinstance(layer, nn.Conv2d)]
    of_size_3 = [layer for layer in convolutions if layer.kernel_size == (3, 3)]

    assert all(layer.stride == (1, 1) for layer in convolutions)
    assert [(layer.dilation, layer.padding) for layer in of_size_3] == [((2, 2), (2, 2))] * 3


def test_feat_conv_is_dilated_by_6():
    feat_conv = on_meta("resnet50").feat_conv

    assert feat_conv.kernel_size == (3, 3)
    assert feat_conv.dilation == feat_conv.padding == (6, 6)


@pytest.mark.parametrize(
    ("stride_in_1x1", "strides"), [(False, ((1, 1), (2, 2))), (True, ((2, 2), (1, 1)))]
)
def test_stride_sits_where_it_is_asked_for(stride_in_1x1, strides):
    network = on_meta("resnet50", stride_in_1x1=stride_in_1x1)

    for stage in (network.layer2, network.layer3):
        assert (stage[0].conv1.stride, stage[0].conv2.stride) == strides
        assert stage[1].conv1.stride == stage[1].conv2.stride == (1, 1)


def test_stride_in_1x1_does_not_change_the_output_size():
    network = on_meta("resnet50", stride_in_1x1=True)

    features = network(torch.zeros(1, 3, 65, 90, device="meta"))

    assert tuple(features.shape) == (1, 1024, 5, 6)


def test_half_width_halves_every_layers_kernels_but_feat_conv():
    full, half = on_meta("resnet18"), on_meta("resnet18", width=0.5)

    for (name, wide), narrow in zip(full.named_modules(), half.modules(), strict=True):
        if isinstance(wide, nn.Conv2d):
            kernels = wide.out_channels if name == "feat_conv" else wide.out_channels // 2
            assert narrow.out_channels == kernels, name


def test_feat_conv_starts_by_its_inputs_as_the_papers_does_at_its_size():
    weight = ResNet("resnet18", width=0.5, channels=32).feat_conv.weight.detach()

    # The paper's normal(0, 0.01) has 2048 inputs, here are 256: larger by the root of 8.
    assert weight.std().item() == pytest.approx(0.01 * 8**0.5, rel=0.06)


def test_features_are_never_negative(generator):
    features = small()(torch.randn(1, 3, 48, 80, generator=generator))

    assert features.min().item() == 0.0
    assert features.max().item() > 0.0


def test_blocks_in_order_are_the_network(generator):
    network = small()
    frame = torch.randn(1, 3, 48, 80, generator=generator)

    maps = frame
    for _, block in network.blocks():
        maps = block(maps)

    assert torch.equal(maps, network(frame))


def test_blocks_are_named_for_the_split_points_of_the_paper():
    names = [name for name, _ in on_meta("resnet101").blocks()]

    # Table 5: 5 layers are conv5c and feat_conv, 12 all of conv5, 21 three units of conv4 more.
    assert names[-7:] == [
        "layer3.20",
        "layer3.21",
        "layer3.22",
        "layer4.0",
        "layer4.1",
        "layer4.2",
        "feat_conv",
    ]
    assert names[0] == "stem"
    assert len(names) == 1 + 3 + 4 + 23 + 3 + 1


def test_unknown_name_is_refused():
    with pytest.raises(ConfigError, match="'resnet34' is not known.*resnet18, resnet50"):
        ResNet("resnet34")


def test_stride_in_1x1_without_bottlenecks_is_refused():
    with pytest.raises(ConfigError, match="stride_in_1x1 was set for resnet18"):
        ResNet("resnet18", stride_in_1x1=True)


@pytest.mark.parametrize("width", [0.0, -1.0, float("nan")])
def test_width_that_is_not_positive_is_refused(width):
    with pytest.raises(ConfigError, match="width is .*expected a positive number"):
        ResNet("resnet18", width=width)


def test_no_channels_are_refused():
    with pytest.raises(ConfigError, match="channels is 0"):
        ResNet("resnet18", channels=0)
