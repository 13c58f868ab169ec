"""The flow networks: layers, shapes, and what they can tell apart."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from dff_edge.errors import ConfigError
from dff_edge.trainer.models import (
    FlowNetHalf,
    FlowNetInception,
    FlowNetSimple,
    build_flow_network,
)
from tests.trainer.models.flow_networks import NAMES, SMALL, half_pair, small

FRAMES = [(256, 384), (128, 64), (16, 16), (70, 102), (33, 129), (600, 1000)]


@pytest.mark.parametrize("frame", FRAMES, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_outputs_have_stride_16_in_the_frame_at_any_size(name, frame):
    cells = tuple(-(-side // 16) for side in frame)
    half = torch.zeros(2, 3, -(-frame[0] // 2), -(-frame[1] // 2), device="meta")
    with torch.device("meta"):
        network = build_flow_network(name, 5, width=SMALL[name])

    flow, scale = network(half, half)

    assert tuple(flow.shape) == (2, 2, *cells)
    assert tuple(scale.shape) == (2, 5, *cells)


@pytest.mark.parametrize(
    ("name", "strides"),
    [("simple", (128, 64, 32, 16)), ("half", (128, 64, 32, 16)), ("inception", (64, 32))],
)
def test_multi_scale_lists_flows_coarse_to_fine(name, strides, generator):
    network = small(name)
    key, current = half_pair(generator, frame=(256, 384))

    flows = network(key, current, multi_scale=True)

    sizes = [(256 // stride, 384 // stride) for stride in (*strides, 16)]
    assert [tuple(flow.shape) for flow in flows] == [(1, 2, *size) for size in sizes]
    assert torch.equal(flows[-1], network(key, current)[0])


def test_current_frame_comes_first_into_the_first_layer(generator):
    network = small("simple")
    nn.init.zeros_(network.conv1[0].weight[:, 3:])  # blind to the second frame
    key, current = half_pair(generator)
    other_key, other_current = half_pair(generator)

    flow, _ = network(key, current)

    assert torch.equal(network(other_key, current)[0], flow)
    assert not torch.equal(network(key, other_current)[0], flow)


@pytest.mark.parametrize("name", NAMES)
def test_every_layer_takes_part_in_multi_scale_training(name, generator):
    network = small(name).train()
    key, current = half_pair(generator, batch=2)

    flows = network(key, current, multi_scale=True)
    sum(flow.square().sum() for flow in flows).backward()

    idle = {
        key
        for key, weight in network.named_parameters()
        if weight.grad is None or not bool(weight.grad.any())
    }
    assert idle == {"scale.weight", "scale.bias"}


def test_half_has_half_the_kernels_of_simple_in_each_layer():
    with torch.device("meta"):
        full, half = FlowNetSimple(64), FlowNetHalf(64)

    compared = 0
    for (name, wide), narrow in zip(full.named_modules(), half.modules(), strict=True):
        is_head = name.startswith(("predict_flow", "upsample_flow")) or name in ("flow", "scale")
        if isinstance(wide, nn.Conv2d | nn.ConvTranspose2d) and not is_head:
            assert 2 * narrow.out_channels == wide.out_channels, name
            compared += 1
    assert compared == 14


def test_simple_has_the_encoder_of_the_reference_code():
    with torch.device("meta"):
        network = FlowNetSimple(1024)

    layers = {
        name: (layer.out_channels, layer.kernel_size[0], layer.stride[0], layer.bias is not None)
        for name, (layer, _) in (
            (name, stage) for name, stage in network.named_children() if name.startswith("conv")
        )
    }

    assert layers == {
        "conv1": (64, 7, 2, True),
        "conv2": (128, 5, 2, True),
        "conv3": (256, 5, 2, True),
        "conv3_1": (256, 3, 1, True),
        "conv4": (512, 3, 2, True),
        "conv4_1": (512, 3, 1, True),
        "conv5": (512, 3, 2, True),
        "conv5_1": (512, 3, 1, True),
        "conv6": (1024, 3, 2, True),
        "conv6_1": (1024, 3, 1, True),
    }
    assert network.scale.in_channels == network.flow.in_channels == 194


def test_inception_predicts_coarse_flows_for_pre_training_only(generator):
    network = small("inception")
    calls = []
    for level, layer in network.predict_flow.items():
        layer.register_forward_hook(lambda *_, level=level: calls.append(level))
    pair = half_pair(generator)

    network(*pair)
    assert calls == []
    network(*pair, multi_scale=True)
    assert calls == ["5", "4"]


def test_inception_has_no_layer_that_int8_on_a_cpu_cannot_fuse():
    kinds = {type(layer) for layer in small("inception").modules() if not list(layer.children())}

    assert kinds == {nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d, nn.ReLU, nn.MaxPool2d}
    for layer in small("inception").modules():
        if isinstance(layer, nn.ConvTranspose2d):  # what the exact rewriting takes
            assert (layer.kernel_size, layer.stride, layer.padding) == ((4, 4), (2, 2), (1, 1))


def test_odd_upsampling_is_cropped_as_in_the_reference(generator):
    # The reference: no padding, then Crop at offset (1, 1) to the size of the skip.
    network = small("simple")
    deconv = network.deconv["5"][0]
    maps = torch.randn(1, deconv.in_channels, 3, 4, generator=generator)

    unpadded = nn.functional.conv_transpose2d(maps, deconv.weight, deconv.bias, stride=2)

    torch.testing.assert_close(deconv(maps)[..., :5, :7], unpadded[..., 1:6, 1:8])


def test_inception_learns_one_translation_per_pair(generator):
    # Not accuracy, only that gradients point the right way: which of two shifts is it?
    network = FlowNetInception(None, width=0.25).train()
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
    texture = torch.randn(4, 3, 32, 80, generator=generator)
    key, current = texture[..., 8:72], texture[..., 8:72].clone()
    current[:2], current[2:] = texture[:2, ..., 12:76], texture[2:, ..., 4:68]
    target = torch.zeros(4, 2, 4, 8)
    target[:2, 0], target[2:, 0] = 0.5, -0.5  # four pixels of the half-size frame

    errors = []
    for _ in range(40):
        flow, _ = network(key, current)
        loss = (flow - target).norm(dim=1).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        errors.append(loss.item())

    assert errors[-1] < 0.3 * errors[0]


def test_unknown_name_is_refused():
    with pytest.raises(ConfigError, match="'pwc' is not known.*simple, half, inception"):
        build_flow_network("pwc", 8)
