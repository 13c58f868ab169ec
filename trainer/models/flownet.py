"""The flow networks: from a pair of half-size frames to flow and scale field.

Runs on every frame that is not a key frame, so its cost determines the speed-up.

Source: Zhu et al., "Deep Feature Flow for Video Recognition", CVPR 2017,
    https://arxiv.org/abs/1611.07715, section 4, "Flow Network"; FlowNet of Fischer et
    al., "FlowNet: Learning Optical Flow with Convolutional Networks", ICCV 2015,
    https://arxiv.org/abs/1504.06852.
    FlowNet "Simple"  -> FlowNetSimple
    FlowNet Half      -> FlowNetHalf
    FlowNet Inception -> FlowNetInception
Differs from the paper: as in its reference code, not flow and scale but the last
    concatenation is averaged to stride 16, and both are computed there.
Differs from the reference code: the bias of the scale head is trained, which is held
    at 1 there.
Differs from the paper: it does not specify FlowNet Inception. Ours has ReLU and
    BatchNorm, which fold into INT8 convolutions, encodes to stride 64 of the frame, and
    decodes straight to stride 16, without the level at stride 8 that is averaged away.

Shapes: N batch, C channels of the scale field, H x W image, h x w feature map at stride S. Levels
are named by powers of two of the half-size frame: level 2 is stride 4 there, stride 8 in the frame.

Unit: every flow is (dx, dy) from the current frame to the key frame in *feature cells*
(S pixels of the frame, S the feature stride), at every level. The layers themselves work in a
unit of 40 pixels (20 of the half-size frame), that of published FlowNet weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, overload

import torch
from torch import Tensor, nn

from dff_edge.errors import ConfigError, ShapeError
from dff_edge.trainer.models.normalize import average_pool_2x2
from dff_edge.trainer.models.width import scale_kernels

FlowNetName = Literal["simple", "half", "inception"]

UNIT_PX = 40.0
HEAD_STRIDE = 16  # px, of the maps that the heads read
_LEAKY_SLOPE = 0.1
_PAIR_CHANNELS = 6


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


class FlowNetSimple(FlowNetwork):
    """FlowNet, the "Simple" version.

    Args:
        channels: C, channels of the scale field. None: no scale.
        width: multiplies the kernels of every layer but the heads.
        stride: S, of the features.
    """

    def __init__(
        self, channels: int | None = 1024, *, width: float = 1.0, stride: int = 16
    ) -> None:
        k64, k128, k256, k512, k1024 = (
            scale_kernels(kernels, width) for kernels in (64, 128, 256, 512, 1024)
        )
        super().__init__(k128 + k64 + 2, channels, stride)
        self.conv1 = _leaky_conv(_PAIR_CHANNELS, k64, size=7, stride=2)
        self.conv2 = _leaky_conv(k64, k128, size=5, stride=2)
        self.conv3 = _leaky_conv(k128, k256, size=5, stride=2)
        self.conv3_1 = _leaky_conv(k256, k256)
        self.conv4 = _leaky_conv(k256, k512, stride=2)
        self.conv4_1 = _leaky_conv(k512, k512)
        self.conv5 = _leaky_conv(k512, k512, stride=2)
        self.conv5_1 = _leaky_conv(k512, k512)
        self.conv6 = _leaky_conv(k512, k1024, stride=2)
        self.conv6_1 = _leaky_conv(k1024, k1024)
        skips = {2: k128, 3: k256, 4: k512, 5: k512}
        ups = {2: k64, 3: k128, 4: k256, 5: k512}
        self.predict_flow = nn.ModuleDict()
        self.deconv = nn.ModuleDict()
        self.upsample_flow = nn.ModuleDict()
        kernels = k1024
        for level in (5, 4, 3, 2):
            self.predict_flow[str(level + 1)] = nn.Conv2d(kernels, 2, 3, padding=1)
            self.deconv[str(level)] = _leaky_deconv(kernels, ups[level])
            self.upsample_flow[str(level)] = nn.ConvTranspose2d(2, 2, 4, stride=2, padding=1)
            kernels = skips[level] + ups[level] + 2
        self._initialise(_LEAKY_SLOPE)

    def decode(self, pair: Tensor, multi_scale: bool) -> tuple[Tensor, list[Tensor]]:
        level2 = self.conv2(self.conv1(pair))
        level3 = self.conv3_1(self.conv3(level2))
        level4 = self.conv4_1(self.conv4(level3))
        level5 = self.conv5_1(self.conv5(level4))
        maps = self.conv6_1(self.conv6(level5))
        flows: list[Tensor] = []
        for level, skip in ((5, level5), (4, level4), (3, level3), (2, level2)):
            flow = self.predict_flow[str(level + 1)](maps)
            up_maps = _crop(self.deconv[str(level)](maps), skip)
            up_flow = _crop(self.upsample_flow[str(level)](flow), skip)
            maps = torch.cat((skip, up_maps, up_flow), dim=1)
            flows.append(flow)
        return average_pool_2x2(maps), flows


class FlowNetHalf(FlowNetSimple):
    """FlowNet Half: FlowNetSimple with half the kernels in each layer.

    Args:
        channels: C, channels of the scale field. None: no scale.
        width: multiplies the halved kernels once more.
        stride: S, of the features.
    """

    def __init__(
        self, channels: int | None = 1024, *, width: float = 1.0, stride: int = 16
    ) -> None:
        super().__init__(channels, width=0.5 * width, stride=stride)


class FlowNetInception(FlowNetwork):
    """FlowNet Inception: Inception modules, a short decoder, 1.5 GMAC at 512 x 1024.

    Shaped by the costs of INT8 on a CPU, not by multiply-adds alone: one stride 4
    convolution on the six input channels, no average pooling, coarse flows that are
    predicted for pre-training only, and few channels where the heads read.

    Args:
        channels: C, channels of the scale field. None: no scale.
        width: multiplies the kernels of every layer but the heads.
        stride: S, of the features.
    """

    def __init__(
        self, channels: int | None = 1024, *, width: float = 1.0, stride: int = 16
    ) -> None:
        def scaled(*kernels: int) -> list[int]:
            return [scale_kernels(count, width) for count in kernels]

        k_stem, k2, k3, k4, k5, k_up4, k_up3, k_merge = scaled(48, 64, 128, 256, 384, 64, 48, 64)
        super().__init__(k_merge, channels, stride)
        self.conv1 = _relu_conv(_PAIR_CHANNELS, k_stem, size=7, stride=4)
        self.conv2 = _relu_conv(k_stem, k2)
        self.inception3 = _Inception(k2, k3, scaled(32, 64, 24, 32), stride=2)
        self.inception3_1 = _Inception(k3, k3, scaled(48, 64, 24, 32))
        self.inception4 = _Inception(k3, k4, scaled(64, 128, 32, 64), stride=2)
        self.inception4_1 = _Inception(k4, k4, scaled(96, 128, 48, 64))
        self.inception5 = _Inception(k4, k5, scaled(96, 192, 48, 96), stride=2)
        self.inception5_1 = _Inception(k5, k5, scaled(96, 192, 48, 96))
        self.deconv = nn.ModuleDict(
            {"4": _relu_deconv(k5, k_up4), "3": _relu_deconv(k4 + k_up4, k_up3)}
        )
        self.merge = _relu_conv(k3 + k_up3, k_merge)
        self.predict_flow = nn.ModuleDict(
            {
                "5": nn.Conv2d(k5, 2, 3, padding=1),
                "4": nn.Conv2d(k4 + k_up4, 2, 3, padding=1),
            }
        )
        self._initialise(negative_slope=0.0)

    def decode(self, pair: Tensor, multi_scale: bool) -> tuple[Tensor, list[Tensor]]:
        level3 = self.inception3_1(self.inception3(self.conv2(self.conv1(pair))))
        level4 = self.inception4_1(self.inception4(level3))
        level5 = self.inception5_1(self.inception5(level4))
        merged4 = torch.cat((level4, _crop(self.deconv["4"](level5), level4)), dim=1)
        merged3 = torch.cat((level3, _crop(self.deconv["3"](merged4), level3)), dim=1)
        flows: list[Tensor] = []
        if multi_scale:
            flows = [self.predict_flow["5"](level5), self.predict_flow["4"](merged4)]
        return self.merge(merged3), flows


class _Inception(nn.Module):
    """Inception module: 1x1, 3x3 and double 3x3 branches side by side.

    With stride 2 the 1x1 branch reads the 3x3 maximum, as pooling projections do.

    Args:
        in_kernels: kernels of the input.
        out_kernels: kernels of the output; the 1x1 branch gets what the others leave.
        branch_kernels: of the 3x3 branch's reduction and output, then of the double 3x3
            branch's.
        stride: 1 or 2.
    """

    def __init__(
        self,
        in_kernels: int,
        out_kernels: int,
        branch_kernels: Sequence[int],
        stride: int = 1,
    ) -> None:
        super().__init__()
        reduce, single, reduce_double, double = branch_kernels
        point = out_kernels - single - double
        if point < 1:
            raise ConfigError(
                f"an Inception module of {out_kernels} kernels leaves none beside branches of "
                f"{single} and {double}: width is too small. Use a width of at least 0.25."
            )
        self.pool = nn.MaxPool2d(3, stride=2, padding=1) if stride == 2 else None
        self.branch_1x1 = _relu_conv(in_kernels, point, size=1)
        self.branch_3x3 = nn.Sequential(
            _relu_conv(in_kernels, reduce, size=1), _relu_conv(reduce, single, stride=stride)
        )
        self.branch_5x5 = nn.Sequential(
            _relu_conv(in_kernels, reduce_double, size=1),
            _relu_conv(reduce_double, double),
            _relu_conv(double, double, stride=stride),
        )

    def forward(self, maps: Tensor) -> Tensor:
        pooled = maps if self.pool is None else self.pool(maps)
        branches = (self.branch_1x1(pooled), self.branch_3x3(maps), self.branch_5x5(maps))
        return torch.cat(branches, dim=1)


_NETWORKS: dict[str, type[FlowNetSimple] | type[FlowNetInception]] = {
    "simple": FlowNetSimple,
    "half": FlowNetHalf,
    "inception": FlowNetInception,
}


def build_flow_network(
    name: FlowNetName, channels: int | None, *, width: float = 1.0, stride: int = 16
) -> FlowNetwork:
    """Build a flow network by name.

    Raises:
        ConfigError: if the name is unknown or the width is not positive.
    """
    if name not in _NETWORKS:
        raise ConfigError(
            f"flow network '{name}' is not known, expected one of {', '.join(_NETWORKS)}."
        )
    return _NETWORKS[name](channels, width=width, stride=stride)


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


def _leaky_conv(in_kernels: int, kernels: int, size: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_kernels, kernels, size, stride=stride, padding=size // 2),
        nn.LeakyReLU(_LEAKY_SLOPE, inplace=True),
    )


def _relu_conv(in_kernels: int, kernels: int, size: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_kernels, kernels, size, stride=stride, padding=size // 2, bias=False),
        nn.BatchNorm2d(kernels),
        nn.ReLU(inplace=True),
    )


def _leaky_deconv(in_kernels: int, kernels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.ConvTranspose2d(in_kernels, kernels, 4, stride=2, padding=1),
        nn.LeakyReLU(_LEAKY_SLOPE, inplace=True),
    )


def _relu_deconv(in_kernels: int, kernels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.ConvTranspose2d(in_kernels, kernels, 4, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(kernels),
        nn.ReLU(inplace=True),
    )


def _crop(maps: Tensor, like: Tensor) -> Tensor:
    """Crop the row or column that upsampling adds where the finer level is odd."""
    # Padding 1 has already removed what the reference's Crop at offset (1, 1) removes above and
    # left. Skipped where it would do nothing, so that no Slice is exported.
    if maps.shape[-2:] == like.shape[-2:]:
        return maps
    return maps[..., : like.shape[-2], : like.shape[-1]]


def _set_bilinear(layer: nn.Module) -> None:
    """Initialise a 4x4 stride 2 transposed convolution as bilinear interpolation."""
    assert isinstance(layer, nn.ConvTranspose2d)
    line = torch.tensor([0.25, 0.75, 0.75, 0.25])
    with torch.no_grad():
        layer.weight.zero_()
        for channel in range(layer.weight.shape[0]):
            layer.weight[channel, channel] = torch.outer(line, line)
