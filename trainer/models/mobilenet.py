"""A light feature network: MobileNetV2 at stride 16 that ends in a dilated 3x3 convolution.

Source: Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018,
    https://arxiv.org/abs/1801.04381, Table 2. Not in the Deep Feature Flow paper; the paper's
    changes to ResNet's last stage and above are applied here.
Differs from torchvision: with the neck "dilated" the stages that would be coarser than the features
    have stride 1, and they and those behind them dilated convolutions; the 1x1 convolution to 1280
    kernels (``features.18``) is left out, which would make ``feat_conv`` four times as large. Names
    and shapes of the other weights are the same, but frames are BGR: published RGB weights need
    ``features.0.0`` flipped along its inputs.

Shapes: N batch, C channels, H x W image, h = ceil(H / S), w = ceil(W / S), S the feature stride.
"""

from __future__ import annotations

from typing import ClassVar, Literal, NamedTuple

from torch import Tensor, nn

from dff_edge.errors import ConfigError
from dff_edge.trainer.models.feature import FeatureNetwork, NeckName, Step, dilate
from dff_edge.trainer.models.width import scale_kernels

MobileNetName = Literal["mobilenet_v2"]
MOBILENET_CHANNELS = 256


class _Stage(NamedTuple):
    expansion: int
    kernels: int
    blocks: int
    stride: int


_STEM_KERNELS = 32
_STAGES = (
    _Stage(1, 16, 1, 1),
    _Stage(6, 24, 2, 2),
    _Stage(6, 32, 3, 2),
    _Stage(6, 64, 4, 2),
    _Stage(6, 96, 3, 1),
    _Stage(6, 160, 3, 2),
    _Stage(6, 320, 1, 1),
)


class _InvertedResidual(nn.Module):
    """1x1 expansion, 3x3 depthwise, 1x1 projection without activation."""

    def __init__(
        self, in_kernels: int, kernels: int, expansion: int, stride: int, dilation: int
    ) -> None:
        super().__init__()
        inner = in_kernels * expansion
        layers: list[nn.Module] = []
        if expansion != 1:
            layers.append(_conv(in_kernels, inner, 1))
        layers += [
            _conv(inner, inner, 3, stride=stride, dilation=dilation, groups=inner),
            nn.Conv2d(inner, kernels, 1, bias=False),
            nn.BatchNorm2d(kernels),
        ]
        self.conv = nn.Sequential(*layers)
        self.has_shortcut = stride == 1 and in_kernels == kernels

    def forward(self, maps: Tensor) -> Tensor:
        out: Tensor = self.conv(maps)
        return maps + out if self.has_shortcut else out


class MobileNetV2(FeatureNetwork):
    """MobileNetV2 with a neck on top.

    Args:
        width: multiplies the kernels of every layer below the neck; 1.0 gives torchvision's shapes.
        channels: C, the channels of the features.
        stride: S, pixels of the frame per feature cell.
        neck: how its maps become features.

    Raises:
        ConfigError: if width or channels are not positive.

    Example:
        >>> MobileNetV2()(torch.zeros(1, 3, 64, 96)).shape
        torch.Size([1, 256, 4, 6])
    """

    input_conv: ClassVar[str] = "features.0.0"
    left_out: tuple[str, ...] = ("features.18.", "classifier.")

    def __init__(
        self,
        *,
        width: float = 1.0,
        channels: int = MOBILENET_CHANNELS,
        stride: int = 16,
        neck: NeckName = "dilated",
    ) -> None:
        super().__init__(stride, neck)
        if channels < 1:
            raise ConfigError(f"channels is {channels}, expected at least 1.")
        kernels = scale_kernels(_STEM_KERNELS, width)
        layers: list[nn.Module] = [_conv(3, kernels, 3, stride=2)]
        last = {2: kernels}
        for stage, step in zip(
            _STAGES, dilate([s.stride for s in _STAGES], 2, self.body_stride), strict=True
        ):
            stage_kernels = scale_kernels(stage.kernels, width)
            for index in range(stage.blocks):
                stride = step.stride if index == 0 else 1
                layers.append(
                    _InvertedResidual(
                        kernels, stage_kernels, stage.expansion, stride, step.dilation
                    )
                )
                kernels = stage_kernels
            last[step.reached] = kernels
        self.features = nn.Sequential(*layers)
        self._finish(last, channels)

    def body(self) -> list[tuple[str, Step]]:
        """List ``("features.0", ...)`` .. ``("features.17", ...)``."""
        return [(f"features.{name}", layer) for name, layer in self.features.named_children()]


def _conv(
    in_kernels: int, kernels: int, size: int, *, stride: int = 1, dilation: int = 1, groups: int = 1
) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(
            in_kernels,
            kernels,
            size,
            stride=stride,
            padding=dilation * (size // 2),
            dilation=dilation,
            groups=groups,
            bias=False,
        ),
        nn.BatchNorm2d(kernels),
        nn.ReLU6(inplace=True),
    )
