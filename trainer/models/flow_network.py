"""The base of the flow networks: a pair of half-size frames in, flow and scale field out.

Source: Zhu et al., "Deep Feature Flow for Video Recognition", CVPR 2017,
    https://arxiv.org/abs/1611.07715, section 4, "Flow Network", and section 3, the scale field.
Differs from the paper: as in its reference code, not flow and scale but the last
    concatenation is averaged to stride 16, and both are computed there.
Differs from the reference code: the bias of the scale head is trained, which is held
    at 1 there.

Shapes: N batch, C channels of the scale field, H x W image, h x w feature map at stride S.

Unit: every flow is (dx, dy) from the current frame to the key frame in *feature cells*
(S pixels of the frame, S the feature stride), at every level. The layers themselves work in a
unit of 40 pixels (20 of the half-size frame), that of published FlowNet weights.
"""

from __future__ import annotations

from typing import Literal, overload

import torch
from torch import Tensor, nn

from dff_edge.errors import ShapeError

UNIT_PX = 40.0
HEAD_STRIDE = 16  # px, of the maps that the heads read
PAIR_CHANNELS = 6


class FlowNetwork(nn.Module):
    """The base of all flow networks: their input and the two heads, which read maps at stride 16.

    For features at stride 8 the heads output the values of 2 x 2 feature cells as channels, which
    are then moved to their places (``spread``).

    A subclass builds the layers in between and names them in ``decode``.

    Args:
        head_kernels: channels of the maps that the heads read.
        channels: C, channels of the scale field, those of the features. None: no scale.
        stride: S, of the features, 8 or 16.
    """

    def __init__(self, head_kernels: int, channels: int | None, stride: int) -> None:
        super().__init__()
        self.head_kernels = head_kernels
        self.channels = channels
        self.stride = stride
        cells = self.cells_per_head_cell**2
        self.flow = nn.Conv2d(head_kernels, 2 * cells, 3, padding=1)
        self.scale = None if channels is None else nn.Conv2d(head_kernels, channels * cells, 1)

    @property
    def cells_per_head_cell(self) -> int:
        """Feature cells per cell of the maps that the heads read, each way."""
        return HEAD_STRIDE // self.stride

    @property
    def cells_per_unit(self) -> float:
        """Feature cells per unit of the layers."""
        return UNIT_PX / self.stride

    def decode(self, pair: Tensor, multi_scale: bool) -> tuple[Tensor, list[Tensor]]:
        """Run everything but the heads.

        Args:
            pair: ``(N, 6, H / 2, W / 2)``, current frame, then key frame.
            multi_scale: whether the coarse flows are wanted.

        Returns:
            Maps ``(N, head_kernels, H / 16, W / 16)``, and the coarse flows in the layers' own
            unit, coarsest first; where they are not wanted the list may be empty.
        """
        raise NotImplementedError

    @overload
    def forward(
        self, key_half: Tensor, current_half: Tensor, multi_scale: Literal[False] = False
    ) -> tuple[Tensor, Tensor | None]: ...

    @overload
    def forward(
        self, key_half: Tensor, current_half: Tensor, multi_scale: Literal[True]
    ) -> list[Tensor]: ...

    def forward(
        self, key_half: Tensor, current_half: Tensor, multi_scale: bool = False
    ) -> tuple[Tensor, Tensor | None] | list[Tensor]:
        """Estimate flow and scale field of the current frame against the key frame.

        Args:
            key_half: float ``(N, 3, H / 2, W / 2)``, BGR, normalised, the key frame.
            current_half: the same of the current frame.
            multi_scale: return the flows of all levels, for pre-training, and no scale.

        Returns:
            ``flow`` float ``(N, 2, h, w)`` in feature cells, and ``scale`` float
            ``(N, C, h, w)`` or None. With ``multi_scale`` a list of flows instead, coarse
            to fine, each in feature cells on a grid of its own: strides 128, 64, 32, 16 of
            the frame (FlowNet Inception: 64, 32), last the final ``flow``, at S.

        Raises:
            ShapeError: if the frames are not alike or not ``(N, 3, ...)``.
        """
        pair = self.pair(key_half, current_half)
        maps, coarse_flows = self.decode(pair, multi_scale)
        if multi_scale:
            flow, _ = self.heads(maps)
            return [*(coarse * self.cells_per_unit for coarse in coarse_flows), flow]
        return self.heads(maps)

    def pair(self, key_half: Tensor, current_half: Tensor) -> Tensor:
        """Join two normalised half-size frames, for ``decode``; see ``forward``."""
        if key_half.shape != current_half.shape or key_half.ndim != 4 or key_half.shape[1] != 3:
            raise ShapeError(
                f"key_half has shape {tuple(key_half.shape)} and current_half "
                f"{tuple(current_half.shape)}, expected both (N, 3, H / 2, W / 2)."
            )
        # Current first: the order of the reference code, and of its weights.
        return torch.cat((current_half, key_half), dim=1)

    def heads(self, maps: Tensor) -> tuple[Tensor, Tensor | None]:
        """Compute flow and scale field from what ``decode`` returns; see ``forward``."""
        ratio = self.cells_per_head_cell
        # In mixed precision too: bfloat16 would round a flow of 10 cells to a sixteenth of one.
        with torch.autocast("cuda", enabled=False), torch.autocast("cpu", enabled=False):
            flow = spread(self.flow(maps.to(self.flow.weight.dtype)), ratio) * self.cells_per_unit
        return flow, None if self.scale is None else spread(self.scale(maps), ratio)

    def _initialise(self, negative_slope: float) -> None:
        """Initialise all layers; called by a subclass when they are built."""
        for name, layer in self.named_modules():
            if not isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                continue
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
            if name.startswith("upsample_flow"):
                _set_bilinear(layer)
            elif name.startswith("predict_flow") or layer is self.flow:
                nn.init.normal_(layer.weight, std=1e-3)  # starts without motion
            elif isinstance(layer, nn.ConvTranspose2d):
                # Torch takes a transposed convolution's fan from its outputs. Each output
                # sums in_channels * 4 * 4 / (2 * 2) products.
                gain = nn.init.calculate_gain("leaky_relu", negative_slope)
                nn.init.normal_(layer.weight, std=gain / (4 * layer.in_channels) ** 0.5)
            else:
                nn.init.kaiming_normal_(layer.weight, a=negative_slope)
        if self.scale is not None:
            # Section 3: "initialized to all ones".
            assert self.scale.bias is not None
            nn.init.zeros_(self.scale.weight)
            nn.init.ones_(self.scale.bias)


def spread(maps: Tensor, ratio: int) -> Tensor:
    """Move a head's outputs for the feature cells of each of its cells to their places.

    Args:
        maps: ``(N, n r r, H / 16, W / 16)``; cell by cell, row by row.
        ratio: r = 16 / S, feature cells per cell of the maps, each way.

    Returns:
        ``(N, n, h, w)``; the maps themselves where S is 16.
    """
    if ratio == 1:
        return maps
    count, height, width = maps.shape[1] // ratio**2, *maps.shape[2:]
    cells = maps.reshape(-1, ratio, ratio, count, height, width).permute(0, 3, 4, 1, 5, 2)
    return cells.reshape(-1, count, ratio * height, ratio * width)


def _set_bilinear(layer: nn.Module) -> None:
    """Initialise a 4x4 stride 2 transposed convolution as bilinear interpolation."""
    assert isinstance(layer, nn.ConvTranspose2d)
    line = torch.tensor([0.25, 0.75, 0.75, 0.25])
    with torch.no_grad():
        layer.weight.zero_()
        for channel in range(layer.weight.shape[0]):
            layer.weight[channel, channel] = torch.outer(line, line)
