"""The flow networks: what lies between a pair of half-size frames and the heads.

Runs on every frame that is not a key frame, so its cost determines the speed-up.

Source: Zhu et al., "Deep Feature Flow for Video Recognition", CVPR 2017,
    https://arxiv.org/abs/1611.07715, section 4, "Flow Network"; FlowNet of Fischer et
    al., "FlowNet: Learning Optical Flow with Convolutional Networks", ICCV 2015,
    https://arxiv.org/abs/1504.06852.
    FlowNet "Simple"  -> FlowNetSimple
    FlowNet Half      -> FlowNetHalf
    FlowNet Inception -> FlowNetInception
Differs from the paper: it does not specify FlowNet Inception. Ours has ReLU and
    BatchNorm, which fold into INT8 convolutions, encodes to stride 64 of the frame, and
    decodes straight to stride 16, without the level at stride 8 that is averaged away.

Levels are named by powers of two of the half-size frame: level 2 is stride 4 there, stride 8 in
the frame. Heads, units and start values: ``flow_network``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from dff_edge.errors import ConfigError
from dff_edge.trainer.models.flow_network import PAIR_CHANNELS, FlowNetwork
from dff_edge.trainer.models.normalize import average_pool_2x2
from dff_edge.trainer.models.width import scale_kernels

FlowNetName = Literal["simple", "half", "inception"]

_LEAKY_SLOPE = 0.1


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
        self.conv1 = _leaky_conv(PAIR_CHANNELS, k64, size=7, stride=2)
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
        self.conv1 = _relu_conv(PAIR_CHANNELS, k_stem, size=7, stride=4)
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
