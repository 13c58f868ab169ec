"""EfficientNet-Lite0, 1 and 2: EfficientNets without operators that are slow in integer kernels.

Inverted residuals as MobileNetV2's, some of them with 5x5 depthwise convolutions; no squeeze and
excitation, ReLU6 in place of swish. Published weights were trained on frames normalised by
(x - 127) / 128, with TensorFlow's padding and BatchNorm's epsilon of 0.001.

Source: Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML
    2019, https://arxiv.org/abs/1905.11946, Table 1; the Lite variants: TensorFlow's model garden,
    ``efficientnet_lite_builder.py`` of github.com/tensorflow/tpu.
Differs from them: the last stages keep the feature stride, with dilated
    convolutions from there on; the 1x1 convolution to 1280 kernels is left out; no stochastic
    depth. Names of the weights are those of the package ``efficientnet_lite_pytorch`` without
    the underscores (and ``block`` for ``_blocks``), but frames are BGR: published RGB weights need
    ``conv_stem`` flipped along its inputs.

Shapes: N batch, C channels, H x W image, h = ceil(H / S), w = ceil(W / S), S the feature stride.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from dff_edge.errors import ConfigError
from dff_edge.trainer.models.feature import FeatureNetwork, NeckName, Step, dilate
from dff_edge.trainer.models.width import scale_kernels

EfficientNetName = Literal["efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"]
EFFICIENTNET_CHANNELS = 256


class _Scaling(NamedTuple):
    width: float
    depth: float


class _Stage(NamedTuple):
    expansion: int
    size: int
    kernels: int
    blocks: int
    stride: int


_SCALING: dict[EfficientNetName, _Scaling] = {
    "efficientnet_lite0": _Scaling(1.0, 1.0),
    "efficientnet_lite1": _Scaling(1.0, 1.1),
    "efficientnet_lite2": _Scaling(1.1, 1.2),
}
_STEM_KERNELS = 32
_STAGES = (
    _Stage(1, 3, 16, 1, 1),
    _Stage(6, 3, 24, 2, 2),
    _Stage(6, 5, 40, 2, 2),
    _Stage(6, 3, 80, 3, 2),
    _Stage(6, 5, 112, 3, 1),
    _Stage(6, 5, 192, 4, 2),
    _Stage(6, 3, 320, 1, 1),
)
_EPSILON, _MOMENTUM = 1e-3, 0.01


class SameConv2d(nn.Conv2d):
    """A convolution with TensorFlow's "same" padding, without bias.

    The output has ceil(n / stride) cells of n. Where an odd number of cells has to be added, the
    larger half is below and to the right; so the padding depends on the size of the maps.
    """

    def __init__(
        self,
        in_kernels: int,
        kernels: int,
        size: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        groups: int = 1,
    ) -> None:
        super().__init__(
            in_kernels, kernels, size, stride=stride, dilation=dilation, groups=groups, bias=False
        )

    def forward(self, maps: Tensor) -> Tensor:
        if self.groups == 1:
            return self._convolve(maps)
        # In mixed precision too: on CPUs the gradients of depthwise convolutions take several
        # times as long in bfloat16 as in float32.
        with torch.autocast("cpu", enabled=False):
            return self._convolve(maps.to(self.weight.dtype) if maps.is_cpu else maps)

    def _convolve(self, maps: Tensor) -> Tensor:
        rows, columns = (self._padding_of(axis, maps.shape[axis + 2]) for axis in (0, 1))
        if rows[0] == rows[1] and columns[0] == columns[1]:
            return functional.conv2d(
                maps,
                self.weight,
                self.bias,  # export folds BatchNorm into it
                self.stride,
                (rows[0], columns[0]),
                self.dilation,
                self.groups,
            )
        padded = functional.pad(maps, (*columns, *rows))
        return functional.conv2d(
            padded, self.weight, self.bias, self.stride, 0, self.dilation, self.groups
        )

    def _padding_of(self, axis: int, cells: int) -> tuple[int, int]:
        """Return the cells to add before and after the maps along an axis."""
        stride, reach = self.stride[axis], self.dilation[axis] * (self.kernel_size[axis] - 1)
        outputs = -(-cells // stride)
        total = max((outputs - 1) * stride + reach + 1 - cells, 0)
        return total // 2, total - total // 2


class _InvertedResidual(nn.Module):
    """1x1 expansion, depthwise convolution, 1x1 projection without activation."""

    def __init__(
        self,
        in_kernels: int,
        kernels: int,
        *,
        expansion: int,
        size: int,
        stride: int,
        dilation: int,
    ) -> None:
        super().__init__()
        inner = in_kernels * expansion
        self.expands = expansion != 1
        if self.expands:
            self.expand_conv = SameConv2d(in_kernels, inner, 1)
            self.bn0 = _batch_norm(inner)
        self.depthwise_conv = SameConv2d(
            inner, inner, size, stride=stride, dilation=dilation, groups=inner
        )
        self.bn1 = _batch_norm(inner)
        self.project_conv = SameConv2d(inner, kernels, 1)
        self.bn2 = _batch_norm(kernels)
        self.has_shortcut = stride == 1 and in_kernels == kernels

    def forward(self, maps: Tensor) -> Tensor:
        out = maps
        if self.expands:
            out = functional.relu6(self.bn0(self.expand_conv(maps)), inplace=True)
        out = functional.relu6(self.bn1(self.depthwise_conv(out)), inplace=True)
        out = self.bn2(self.project_conv(out))
        return maps + out if self.has_shortcut else out


class EfficientNetLite(FeatureNetwork):
    """An EfficientNet-Lite with a neck on top.

    Args:
        name: the variant.
        width: multiplies the kernels of every layer below the neck; 1.0 gives the published shapes.
        channels: C, the channels of the features.
        stride: S, pixels of the frame per feature cell.
        neck: how its maps become features.
        stages: how many of the seven stages there are.

    Raises:
        ConfigError: if width or channels are not positive.

    Example:
        >>> EfficientNetLite()(torch.zeros(1, 3, 64, 96)).shape
        torch.Size([1, 256, 4, 6])
    """

    input_conv: ClassVar[str] = "conv_stem"
    left_out: tuple[str, ...] = ("conv_head.", "bn1.", "fc.")

    def __init__(
        self,
        name: EfficientNetName = "efficientnet_lite0",
        *,
        width: float = 1.0,
        channels: int = EFFICIENTNET_CHANNELS,
        stride: int = 16,
        neck: NeckName = "dilated",
        stages: int = len(_STAGES),
    ) -> None:
        super().__init__(stride, neck)
        if channels < 1:
            raise ConfigError(f"channels is {channels}, expected at least 1.")
        kernels = scale_kernels(_STEM_KERNELS, width)
        self.conv_stem = SameConv2d(3, kernels, 3, stride=2)
        self.bn0 = _batch_norm(kernels)
        blocks: list[nn.Module] = []
        last, dilation = {2: kernels}, 1
        steps = dilate([stage.stride for stage in _STAGES[:stages]], 2, self.body_stride)
        for number, (stage, step) in enumerate(zip(_STAGES[:stages], steps, strict=True)):
            stage_kernels, count = _scaled(stage, number, _SCALING[name])
            stage_kernels = scale_kernels(stage_kernels, width)
            for index in range(count):
                blocks.append(
                    _InvertedResidual(
                        kernels,
                        stage_kernels,
                        expansion=stage.expansion,
                        size=stage.size,
                        stride=step.stride if index == 0 else 1,
                        # The convolution that had the stride keeps its taps; those after it
                        # spread theirs, so that every second cell is as before.
                        dilation=dilation if index == 0 else step.dilation,
                    )
                )
                kernels = stage_kernels
            dilation, last[step.reached] = step.dilation, kernels
        self.block = nn.ModuleList(blocks)
        all_blocks = sum(_scaled(s, n, _SCALING[name])[1] for n, s in enumerate(_STAGES))
        later = (f"block.{number}." for number in range(len(blocks), all_blocks))
        self.left_out = (*type(self).left_out, *later)
        self._finish(last, channels)

    def body(self) -> list[tuple[str, Step]]:
        """List ``("conv_stem", ...)``, ``("block.0", ...)`` and so on."""
        return [
            ("conv_stem", self._stem),
            *((f"block.{name}", block) for name, block in self.block.named_children()),
        ]

    def _stem(self, frame: Tensor) -> Tensor:
        return functional.relu6(self.bn0(self.conv_stem(frame)), inplace=True)


def _scaled(stage: _Stage, number: int, scaling: _Scaling) -> tuple[int, int]:
    """Return kernels and blocks of a stage; depth does not apply to the first and last stage."""
    is_fixed = number in (0, len(_STAGES) - 1)
    blocks = stage.blocks if is_fixed else math.ceil(scaling.depth * stage.blocks)
    return _round_kernels(stage.kernels * scaling.width), blocks


def _round_kernels(kernels: float) -> int:
    """Return the nearest multiple of 8, or the next one where that is less than nine tenths."""
    rounded = max(8, int(kernels + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * kernels else rounded + 8


def _batch_norm(kernels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(kernels, eps=_EPSILON, momentum=_MOMENTUM)
