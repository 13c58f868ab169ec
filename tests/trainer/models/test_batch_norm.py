"""The fixed BatchNorm of the paper's recipe."""

from __future__ import annotations

import copy

import torch
from lightning.pytorch.plugins import TorchSyncBatchNorm
from torch import nn

from dff_edge.trainer.models import ResNet, freeze_batch_norm


def make_network():
    return ResNet("resnet18", width=0.125, channels=8)


def test_every_batch_norm_is_frozen():
    network = make_network()

    # One in the stem, two in each of eight blocks, three on shortcuts.
    assert freeze_batch_norm(network) == 1 + 16 + 3


def test_statistics_stay_in_training(generator):
    network = make_network()
    freeze_batch_norm(network)
    before = copy.deepcopy(network.state_dict())

    network.train()
    network(torch.randn(2, 3, 48, 80, generator=generator))

    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


def test_output_is_the_same_in_training_and_evaluation(generator):
    network = make_network()
    freeze_batch_norm(network)
    frame = torch.randn(2, 3, 48, 80, generator=generator)

    assert torch.equal(network.train()(frame), network.eval()(frame))


def test_weight_and_bias_take_no_gradient_and_convolutions_do(generator):
    network = make_network()
    freeze_batch_norm(network)

    network(torch.randn(1, 3, 48, 80, generator=generator)).sum().backward()

    assert network.bn1.weight.grad is None
    assert network.conv1.weight.grad is not None


def test_names_in_the_state_dict_stay():
    network = make_network()
    before = list(network.state_dict())

    freeze_batch_norm(network)

    assert list(network.state_dict()) == before
    assert isinstance(network.bn1, nn.BatchNorm2d)


def test_batch_norm_is_frozen_after_training_on_several_gpus(generator):
    """There lightning makes every BatchNorm a synchronised one, and something else of it again."""
    network = make_network()
    synchronised = TorchSyncBatchNorm()
    network = synchronised.revert(synchronised.apply(network))
    before = copy.deepcopy(network.state_dict())

    assert freeze_batch_norm(network) == 1 + 16 + 3

    network.train()(torch.randn(2, 3, 48, 80, generator=generator)).sum().backward()
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    assert network.bn1.weight.grad is None
