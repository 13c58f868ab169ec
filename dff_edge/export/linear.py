"""1x1 convolutions of channels-last maps as products of matrices, without transposes."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class _ChannelsLastLinear(nn.Module):
    """A 1x1 convolution of channels-last maps: one MatMul and one Add in ONNX."""

    weight: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)

    def forward(self, maps: Tensor) -> Tensor:
        return torch.matmul(maps, self.weight) + self.bias


def as_linear(conv: nn.Conv2d) -> nn.Module:
    """Convert a 1x1 convolution for channels-last maps."""
    assert conv.kernel_size == (1, 1)
    assert conv.groups == 1
    weight = conv.weight.detach().float().cpu()[:, :, 0, 0].T.contiguous()  # (C_in, C_out)
    bias = torch.zeros(conv.out_channels) if conv.bias is None else conv.bias.detach()
    return _ChannelsLastLinear(weight, bias.float().cpu().clone())
