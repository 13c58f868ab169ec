"""What all feature networks share: named steps, and a dilated 3x3 convolution at their end.

Runs on key frames only, so it may be heavy.

Source: Zhu et al., "Deep Feature Flow for Video Recognition", CVPR 2017,
    https://arxiv.org/abs/1611.07715, section 4, "Feature Network".

Shapes: N batch, C channels, H x W image, h = ceil(H / 16), w = ceil(W / 16).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn

FEATURE_STRIDE_PX = 16
_FEAT_CONV_DILATION = 6

Step = Callable[[Tensor], Tensor]


class FeatureNetwork(nn.Module):
    """A classification network at stride 16 with ``feat_conv`` on top, the paper's N_feat.

    A subclass builds its layers under torchvision's names, lists them in ``body``, and calls
    ``_finish`` when they stand.

    Attributes:
        input_conv: name of the convolution that reads the frames.
        left_out: prefixes of what a published file holds and this network has not.
        channels: C.
    """

    input_conv: ClassVar[str]
    left_out: ClassVar[tuple[str, ...]]
    channels: int

    def body(self) -> list[tuple[str, Step]]:
        """List the steps below ``feat_conv``, in order."""
        raise NotImplementedError

    def blocks(self) -> list[tuple[str, Step]]:
        """List the network as named steps, in order.

        ``forward`` is these steps one after the other, so a cut between any two of them
        is a split point of the task network.

        Returns:
            Those of ``body``, and ``("feat_conv", ...)``.
        """
        return [*self.body(), ("feat_conv", self._features)]

    def forward(self, frame: Tensor) -> Tensor:
        """Compute the features of normalised frames.

        Args:
            frame: float ``(N, 3, H, W)``, BGR, normalised.

        Returns:
            float ``(N, C, h, w)``, never negative.
        """
        maps = frame
        for _, step in self.blocks():
            maps = step(maps)
        return maps

    def _features(self, maps: Tensor) -> Tensor:
        return torch.relu(self.feat_conv(maps))

    def _finish(self, kernels: int, channels: int) -> None:
        """Put ``feat_conv`` on maps of so many kernels, and give all layers their first weights."""
        self.channels = channels
        self.feat_conv = nn.Conv2d(
            kernels, channels, 3, padding=_FEAT_CONV_DILATION, dilation=_FEAT_CONV_DILATION
        )
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        # By its inputs: for the paper's 2048 this is its normal(0, 0.01), and it keeps the
        # features of narrow networks at the same size.
        nn.init.kaiming_normal_(self.feat_conv.weight, mode="fan_in", nonlinearity="relu")
        assert self.feat_conv.bias is not None
        nn.init.zeros_(self.feat_conv.bias)
