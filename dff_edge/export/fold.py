"""Folding of BatchNorm and normalisation into the weights of convolutions, before export.

BatchNorm in evaluation mode is a factor and an offset for each channel of the convolution
before it; so is the division by the standard deviation for the channels of the first one.
Folded nodes cost nothing on the device, and leave Conv and ReLU side by side,
which INT8 needs.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from dff_edge.errors import ExportError


def fold_batch_norm(network: nn.Module, *inputs: Tensor) -> int:
    """Fold every BatchNorm into the convolution before it, which gets a bias for it.

    Args:
        network: changed in place; in evaluation mode.
        inputs: as for a call. They show which convolution feeds which BatchNorm; only
            shapes matter, nothing is computed.

    Returns:
        The number of folded layers.

    Raises:
        ExportError: a BatchNorm that does not follow a convolution directly.
    """
    pairs = _pairs(network, inputs)
    for conv_name, norm_name in pairs:
        conv, norm = network.get_submodule(conv_name), network.get_submodule(norm_name)
        assert isinstance(conv, nn.Conv2d | nn.ConvTranspose2d)
        assert isinstance(norm, nn.BatchNorm2d)
        is_transposed = isinstance(conv, nn.ConvTranspose2d)
        # In float64, so that folding rounds once.
        folded = fuse_conv_bn_eval(
            copy.deepcopy(conv).double(), copy.deepcopy(norm).double(), transpose=is_transposed
        )
        _replace(network, conv_name, folded.float())
        _replace(network, norm_name, nn.Identity())
    left = [name for name, m in network.named_modules() if isinstance(m, nn.BatchNorm2d)]
    if left:
        raise ExportError(
            f"{len(left)} BatchNorm layers could not be folded (first: '{left[0]}'), because no "
            "convolution alone feeds them. Put each directly behind a convolution."
        )
    return len(pairs)


def fold_input_scale(conv: nn.Conv2d, factor: Tensor) -> None:
    """Multiply the inputs of a convolution by a factor a channel, in its weights.

    Args:
        conv: changed in place.
        factor: float, three values for each frame among the inputs.
    """
    repeats = conv.in_channels // factor.numel()
    with torch.no_grad():
        scaled = conv.weight.double() * factor.double().flatten().repeat(repeats).view(1, -1, 1, 1)
        conv.weight.copy_(scaled)


def _pairs(network: nn.Module, inputs: tuple[Tensor, ...]) -> list[tuple[str, str]]:
    """Return names of convolutions and the BatchNorm that each feeds, by a run on shapes alone."""
    shadow = copy.deepcopy(network).to("meta")
    # The outputs are kept: an id is only unique while its object exists.
    makers: dict[int, tuple[str, Tensor]] = {}
    pairs: list[tuple[str, str]] = []

    def note_conv(name: str) -> None:
        def hook(_: nn.Module, __: object, output: Tensor) -> None:
            makers[id(output)] = (name, output)

        shadow.get_submodule(name).register_forward_hook(hook)

    def note_norm(name: str) -> None:
        def hook(_: nn.Module, args: tuple[Tensor, ...]) -> None:
            if id(args[0]) in makers:
                pairs.append((makers.pop(id(args[0]))[0], name))

        shadow.get_submodule(name).register_forward_pre_hook(hook)

    for name, module in shadow.named_modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            note_conv(name)
        elif isinstance(module, nn.BatchNorm2d):
            note_norm(name)
    with torch.no_grad():
        shadow(*(tensor.to("meta") for tensor in inputs))
    return pairs


def _replace(network: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(network.get_submodule(parent), child, module)
