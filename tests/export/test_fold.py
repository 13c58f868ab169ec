"""Folding changes weights, not results."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from dff_edge.errors import ExportError
from dff_edge.export.fold import fold_batch_norm, fold_input_scale
from tests.export.checkpoints import tiny_checkpoint

RTOL = 1e-4  # of the largest value: twenty float32 layers, each rounded once more


@pytest.fixture(autouse=True)
def _seed():
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(5)
        yield


def random_norm(channels):
    norm = nn.BatchNorm2d(channels).eval()
    for tensor in (norm.running_mean, norm.bias.data):
        tensor.normal_()
    for tensor in (norm.running_var, norm.weight.data):
        tensor.uniform_(0.3, 3.0)
    return norm


def error(found, expected):
    return ((found - expected).abs().max() / expected.abs().max()).item()


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("kind", [nn.Conv2d, nn.ConvTranspose2d])
def test_one_layer_gives_the_same(kind, bias):
    # Unequal channel counts: a factor on the wrong axis of the weights cannot pass.
    network = nn.Sequential(kind(3, 5, 3, stride=2, bias=bias), random_norm(5), nn.ReLU()).eval()
    inputs = torch.randn(1, 3, 9, 7)
    expected = network(inputs)

    assert fold_batch_norm(network, inputs) == 1
    assert isinstance(network[1], nn.Identity)
    assert error(network(inputs), expected) < 1e-6


def test_whole_feature_network_gives_the_same_without_batch_norm():
    model = tiny_checkpoint(feature="resnet50").model
    network = copy.deepcopy(model.feature)
    norms = sum(isinstance(m, nn.BatchNorm2d) for m in network.modules())
    inputs = torch.randn(1, 3, 64, 96)

    assert fold_batch_norm(network, inputs) == norms
    assert not any(isinstance(m, nn.BatchNorm2d) for m in network.modules())
    with torch.no_grad():
        assert error(network(inputs), model.feature(inputs)) < RTOL


def test_batch_norm_behind_something_else_is_refused():
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), random_norm(4)).eval()

    with pytest.raises(ExportError, match=r"1 BatchNorm layers .*first: '2'.*convolution"):
        fold_batch_norm(network, torch.zeros(1, 3, 4, 4))


def test_input_scale_moves_into_the_weights_of_every_frame():
    conv = nn.Conv2d(6, 4, 3, padding=1)
    factor = torch.tensor([0.1, 2.0, 30.0]).view(1, 3, 1, 1)
    inputs = torch.randn(1, 6, 5, 5)
    expected = conv(inputs * factor.repeat(1, 2, 1, 1))

    fold_input_scale(conv, factor)

    assert error(conv(inputs), expected) < 1e-6
