"""The feature network: a ResNet, by default at stride 16, that ends in a dilated 3x3 convolution.

Source: Zhu et al., "Deep Feature Flow for Video Recognition", CVPR 2017,
    https://arxiv.org/abs/1611.07715, section 4, "Feature Network"; ResNet of He et
    al., "Deep Residual Learning for Image Recognition", CVPR 2016.
Differs from the paper: the stride of a bottleneck sits on its 3x3 convolution, as in
    torchvision, unless ``stride_in_1x1``; ResNet-18 and the width multiplier are ours.
Differs from torchvision: ``layer4`` has stride 1, and *all* of its 3x3 convolutions
    have dilation 2, the first block's too. Names and shapes of weights are the same,
    but frames are BGR: published RGB weights need ``conv1`` flipped along its inputs.

Shapes: N batch, C channels, H x W image, h = ceil(H / S), w = ceil(W / S), S the feature stride.
"""

from __future__ import annotations

from typing import ClassVar, Literal, NamedTuple

from torch import Tensor, nn

from dff_edge.errors import ConfigError
from dff_edge.trainer.models.feature import FeatureNetwork, NeckName, Step, dilate
from dff_edge.trainer.models.width import scale_kernels

ResNetName = Literal["resnet18", "resnet50", "resnet101"]

_STAGE_KERNELS = (64, 128, 256, 512)
_STAGE_STRIDES = (1, 2, 2, 2)


class _Depth(NamedTuple):
    is_bottleneck: bool
    blocks: tuple[int, int, int, int]
    default_channels: int


_DEPTHS: dict[str, _Depth] = {
    "resnet18": _Depth(is_bottleneck=False, blocks=(2, 2, 2, 2), default_channels=256),
    "resnet50": _Depth(is_bottleneck=True, blocks=(3, 4, 6, 3), default_channels=1024),
    "resnet101": _Depth(is_bottleneck=True, blocks=(3, 4, 23, 3), default_channels=1024),
}


class _Block(nn.Module):
    """The base of both kinds of residual block: the sum with the shortcut."""

    conv1: nn.Conv2d
    bn1: nn.BatchNorm2d

    def __init__(self, in_kernels: int, out_kernels: int, stride: int) -> None:
        super().__init__()
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Sequential | None = None
        if stride != 1 or in_kernels != out_kernels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_kernels, out_kernels, 1, stride=stride, bias=False),
                nn.BatchNorm2d(out_kernels),
            )

    def residual(self, maps: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, maps: Tensor) -> Tensor:
        shortcut = maps if self.downsample is None else self.downsample(maps)
        out: Tensor = self.relu(self.residual(maps) + shortcut)
        return out


class _BasicBlock(_Block):
    """Two 3x3 convolutions (ResNet-18)."""

    def __init__(self, in_kernels: int, kernels: int, stride: int, dilation: int) -> None:
        super().__init__(in_kernels, kernels, stride)
        self.conv1 = _conv3x3(in_kernels, kernels, stride, dilation)
        self.bn1 = nn.BatchNorm2d(kernels)
        self.conv2 = _conv3x3(kernels, kernels, 1, dilation)
        self.bn2 = nn.BatchNorm2d(kernels)

    def residual(self, maps: Tensor) -> Tensor:
        maps = self.relu(self.bn1(self.conv1(maps)))
        maps = self.bn2(self.conv2(maps))
        return maps


class _Bottleneck(_Block):
    """1x1, 3x3, 1x1 convolutions, the last with four times the kernels."""

    def __init__(
        self, in_kernels: int, kernels: int, stride: int, dilation: int, stride_in_1x1: bool
    ) -> None:
        super().__init__(in_kernels, 4 * kernels, stride)
        stride_1x1, stride_3x3 = (stride, 1) if stride_in_1x1 else (1, stride)
        self.conv1 = nn.Conv2d(in_kernels, kernels, 1, stride=stride_1x1, bias=False)
        self.bn1 = nn.BatchNorm2d(kernels)
        self.conv2 = _conv3x3(kernels, kernels, stride_3x3, dilation)
        self.bn2 = nn.BatchNorm2d(kernels)
        self.conv3 = nn.Conv2d(kernels, 4 * kernels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * kernels)

    def residual(self, maps: Tensor) -> Tensor:
        maps = self.relu(self.bn1(self.conv1(maps)))
        maps = self.relu(self.bn2(self.conv2(maps)))
        maps = self.bn3(self.conv3(maps))
        return maps


class ResNet(FeatureNetwork):
    """ResNet with a neck on top; with the default one the paper's N_feat.

    Args:
        name: ``"resnet18"``, ``"resnet50"`` or ``"resnet101"``.
        width: multiplies the kernels of every layer but ``feat_conv``; 1.0 gives
            torchvision's shapes.
        channels: C, the channels of the features. None: 1024, or 256 for ResNet-18.
        stride_in_1x1: put the stride of a bottleneck on its first 1x1 convolution, for
            weights of the original kind.
        stride: S, pixels of the frame per feature cell.
        neck: how its maps become features.

    Raises:
        ConfigError: if the name is unknown, the width or the channels are not positive,
            or ``stride_in_1x1`` is set for a network without bottlenecks.

    Example:
        >>> ResNet("resnet18")(torch.zeros(1, 3, 64, 96)).shape
        torch.Size([1, 256, 4, 6])
    """

    input_conv: ClassVar[str] = "conv1"
    left_out: tuple[str, ...] = ("fc.",)

    def __init__(
        self,
        name: ResNetName = "resnet101",
        *,
        width: float = 1.0,
        channels: int | None = None,
        stride_in_1x1: bool = False,
        stride: int = 16,
        neck: NeckName = "dilated",
    ) -> None:
        super().__init__(stride, neck)
        depth = _checked_depth(name, channels, stride_in_1x1)
        kernels = scale_kernels(_STAGE_KERNELS[0], width)
        self.conv1 = nn.Conv2d(3, kernels, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(kernels)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)

        stages: list[nn.Sequential] = []
        last = {4: kernels}
        steps = dilate(_STAGE_STRIDES, 4, self.body_stride)
        for stage, (count, step) in enumerate(zip(depth.blocks, steps, strict=True)):
            stage_kernels = scale_kernels(_STAGE_KERNELS[stage], width)
            blocks: list[nn.Module] = []
            for index in range(count):
                own = step.stride if index == 0 else 1
                if depth.is_bottleneck:
                    blocks.append(
                        _Bottleneck(kernels, stage_kernels, own, step.dilation, stride_in_1x1)
                    )
                    kernels = 4 * stage_kernels
                else:
                    blocks.append(_BasicBlock(kernels, stage_kernels, own, step.dilation))
                    kernels = stage_kernels
            stages.append(nn.Sequential(*blocks))
            last[step.reached] = kernels
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self._finish(last, depth.default_channels if channels is None else channels)

    @staticmethod
    def default_channels(name: ResNetName) -> int:
        """Return the default number of feature channels of a network."""
        return _DEPTHS[name].default_channels

    def body(self) -> list[tuple[str, Step]]:
        """List ``("stem", ...)``, ``("layer1.0", ...)`` .. ``("layer4.2", ...)``."""
        steps: list[tuple[str, Step]] = [("stem", self._stem)]
        for number in range(1, 5):
            stage = self.get_submodule(f"layer{number}")
            steps += [(f"layer{number}.{index}", block) for index, block in stage.named_children()]
        return steps

    def _stem(self, frame: Tensor) -> Tensor:
        maps: Tensor = self.maxpool(self.relu(self.bn1(self.conv1(frame))))
        return maps  # (N, 64, H / 4, W / 4)


def _checked_depth(name: str, channels: int | None, stride_in_1x1: bool) -> _Depth:
    if name not in _DEPTHS:
        raise ConfigError(
            f"feature network '{name}' is not known, expected one of {', '.join(_DEPTHS)}."
        )
    if channels is not None and channels < 1:
        raise ConfigError(f"channels is {channels}, expected at least 1.")
    if stride_in_1x1 and not _DEPTHS[name].is_bottleneck:
        raise ConfigError(
            f"stride_in_1x1 was set for {name}, whose blocks have no 1x1 convolution. "
            "Leave it out, or use resnet50 or resnet101."
        )
    return _DEPTHS[name]


def _conv3x3(in_kernels: int, kernels: int, stride: int, dilation: int) -> nn.Conv2d:
    return nn.Conv2d(
        in_kernels, kernels, 3, stride=stride, padding=dilation, dilation=dilation, bias=False
    )
