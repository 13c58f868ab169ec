"""The configuration of a model: everything needed to build it before its weights are loaded."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, Any, Literal, TypeGuard, cast, get_args

import torch
from pydantic import Field, model_validator

from dff_edge.bundle.rfcn import RfcnSettings
from dff_edge.errors import ConfigError
from dff_edge.trainer.models.correction import CorrectionNetwork
from dff_edge.trainer.models.dff import HEAD, NONE, DeepFeatureFlow
from dff_edge.trainer.models.efficientnet import (
    EFFICIENTNET_CHANNELS,
    EfficientNetLite,
    EfficientNetName,
)
from dff_edge.trainer.models.feature import FeatureNetwork, NeckName
from dff_edge.trainer.models.flownet import FlowNetName, build_flow_network
from dff_edge.trainer.models.mobilenet import MOBILENET_CHANNELS, MobileNetName, MobileNetV2
from dff_edge.trainer.models.resnet import ResNet, ResNetName
from dff_edge.trainer.models.task_config import DetectionConfig, TaskConfig
from dff_edge.trainer.settings import Settings

_MOST_BYTES = 8e9  # of weights: 30 times ResNet-101 with FlowNet-Simple
# ImageNet's, in BGR order and units of 0..255.
_MEAN = (103.53, 116.28, 123.675)
_STD = (57.375, 57.12, 58.395)

FeatureName = Literal[ResNetName, MobileNetName, EfficientNetName]
_ANY_SIDE_PX = 64  # of a frame that all networks accept
# The flow network's maps have whole cells only where half the frame is a multiple of 8.
FrameSide = Annotated[int, Field(ge=32, le=8192, multiple_of=16)]
Width = Annotated[float, Field(gt=0, le=16)]
Mean = Annotated[float, Field(ge=-1e6, le=1e6)]
Deviation = Annotated[float, Field(gt=0, le=1e6)]


class FeatureConfig(Settings):
    """The feature network.

    Attributes:
        name: the ResNet, EfficientNet-Lite or MobileNetV2.
        width: multiplies the kernels of every layer below the neck.
        channels: those of ``feat_conv``; None means 1024 for ResNet-50 and 101, 256 for the others.
        stride_in_1x1: for bottleneck weights of the original kind.
        stride: pixels of the frame per feature cell, each way: 16, as in the paper, or 8.
        neck: "dilated", the paper's, keeps the last maps at the stride by dilated convolutions;
            "pyramid" leaves them at 32 and joins finer ones to them.
    """

    name: FeatureName = "resnet101"
    width: Width = 1.0
    channels: int | None = Field(default=None, ge=1, le=65_536)
    stride_in_1x1: bool = False
    stride: Literal[8, 16] = 16
    neck: NeckName = "dilated"

    @model_validator(mode="after")
    def _check_stride(self) -> FeatureConfig:
        if self.stride_in_1x1 and self.name not in ("resnet50", "resnet101"):
            raise ValueError(
                f"stride_in_1x1 is true, but no 1x1 convolution of {self.name} could have the "
                "stride. Leave it out, or take resnet50 or resnet101."
            )
        return self


class FlowConfig(Settings):
    """The flow network.

    Attributes:
        name: the FlowNet.
        width: multiplies the kernels of every layer but the heads.
        scale: whether there is a scale field.
    """

    name: FlowNetName = "inception"
    width: Width = 1.0
    scale: bool = True


class CorrectionConfig(Settings):
    """The correction network, an EfficientNet-Lite that reads the current frame at quarter size.

    Attributes:
        name: the network.
        width: multiplies the kernels of every layer below the neck.
        channels: those of its features.
    """

    name: EfficientNetName = "efficientnet_lite0"
    width: Width = 1.0
    channels: int = Field(default=32, ge=1, le=4096)


class ModelConfig(Settings):
    """A whole model.

    Attributes:
        feature: the feature network.
        flow: the flow network.
        correction: the network that corrects propagated results; None for none, as in the paper.
        task: the task network.
        split: where the task network begins, the paper's Table 5. "head": with its learned 1x1
            maps, its one layer. A step of the feature network that reads maps at the feature
            stride, such as ``feat_conv`` or ``layer4.0``: that step and all after it belong to
            the task network. "none": the learned maps themselves are propagated. Weights have the
            same names in all cases.
        frame_size: ``(H, W)`` in pixels of the networks' input, multiples of 16.
        mean: per channel, BGR, 0..255.
        std: per channel, BGR, 0..255.
    """

    feature: FeatureConfig = FeatureConfig()
    flow: FlowConfig = FlowConfig()
    correction: CorrectionConfig | None = None
    task: TaskConfig
    split: str = HEAD
    frame_size: tuple[FrameSide, FrameSide]
    mean: tuple[Mean, Mean, Mean] = _MEAN
    std: tuple[Deviation, Deviation, Deviation] = _STD

    @property
    def channels(self) -> int:
        """C, channels of the maps that are propagated."""
        if self.split == HEAD:
            return self.head_channels
        if self.split != NONE:
            return split_points(self.feature)[self.split]
        return self.task.map_channels

    @property
    def head_channels(self) -> int:
        """Channels that the learned maps read, with the default of the network filled in."""
        if self.feature.channels is not None:
            return self.feature.channels
        if self.feature.name == "mobilenet_v2":
            return MOBILENET_CHANNELS
        if _is_efficientnet(self.feature.name):
            return EFFICIENTNET_CHANNELS
        return ResNet.default_channels(cast(ResNetName, self.feature.name))

    @property
    def rfcn(self) -> RfcnSettings | None:
        """Settings of detection beside its weights; None for other tasks."""
        return self.task.rfcn if isinstance(self.task, DetectionConfig) else None

    @model_validator(mode="after")
    def _check_split(self) -> ModelConfig:
        if self.split not in (HEAD, NONE) and self.split not in split_points(self.feature):
            raise ValueError(
                f"split is '{self.split}', expected '{HEAD}', '{NONE}', or one of the steps of "
                f"{self.feature.name} at stride {self.feature.stride}: "
                f"{', '.join(split_points(self.feature))}."
            )
        return self

    @model_validator(mode="after")
    def _check_head(self) -> ModelConfig:
        self.task.check_channels(self.head_channels)
        return self


def build_model(config: ModelConfig) -> DeepFeatureFlow:
    """Build the model of a configuration, with weights as at the start of training.

    Args:
        config: a checked configuration.

    Returns:
        The model in training mode on the default device. Under
        ``torch.device("meta")`` it takes no memory.

    Raises:
        ConfigError: its weights would not fit into this machine, or are unreasonably many.
    """
    with torch.device("meta"):
        size = sum(value.numel() * value.element_size() for value in _build(config).parameters())
    if size > (most := _most_bytes()):
        raise ConfigError(
            f"the model would have {size / 1e9:,.1f} GB of weights, expected {most / 1e9:,.1f} at "
            "most. Give smaller widths, or fewer channels or classes."
        )
    return _build(config)


def _most_bytes() -> float:
    """Return the limit of a model's size: that of any network for video, and of this process."""
    try:
        memory = float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (OSError, ValueError):
        memory = math.inf
    return min(_MOST_BYTES, memory)


def _build(config: ModelConfig) -> DeepFeatureFlow:
    feature = _build_feature_network(config.feature, config.head_channels)
    flow = build_flow_network(
        config.flow.name,
        config.channels if config.flow.scale else None,
        width=config.flow.width,
        stride=config.feature.stride,
    )
    return DeepFeatureFlow(
        feature,
        flow,
        config.task.head(config.head_channels),
        task_name=config.task.name,
        mean=config.mean,
        std=config.std,
        rfcn=config.rfcn,
        split=config.split,
        correction=_build_correction(config, flow.head_kernels),
    )


def _build_correction(config: ModelConfig, flow_kernels: int) -> CorrectionNetwork | None:
    own = config.correction
    if own is None:
        return None
    return CorrectionNetwork(
        own.name,
        width=own.width,
        channels=own.channels,
        maps=config.task.map_channels,
        stride=config.feature.stride,
        gate_kernels=flow_kernels,
    )


@lru_cache(maxsize=16)
def split_points(feature: FeatureConfig) -> Mapping[str, int]:
    """Return the split points of a feature network: steps that read maps at the feature stride.

    Returns:
        Channels of the maps that a step reads, by its name, in order.
    """
    with torch.device("meta"):
        network = _build_feature_network(feature, channels=1).eval()
        maps = torch.empty((1, 3, _ANY_SIDE_PX, _ANY_SIDE_PX))
    points: dict[str, int] = {}
    for name, step in network.blocks():
        if maps.shape[2] * feature.stride == _ANY_SIDE_PX:
            points[name] = maps.shape[1]
        maps = step(maps)
    return points


def _build_feature_network(config: FeatureConfig, channels: int) -> FeatureNetwork:
    shape: dict[str, Any] = {
        "width": config.width,
        "channels": channels,
        "stride": config.stride,
        "neck": config.neck,
    }
    if config.name == "mobilenet_v2":
        return MobileNetV2(**shape)
    if _is_efficientnet(config.name):
        return EfficientNetLite(config.name, **shape)
    name = cast(ResNetName, config.name)
    return ResNet(name, stride_in_1x1=config.stride_in_1x1, **shape)


def _is_efficientnet(name: FeatureName) -> TypeGuard[EfficientNetName]:
    return name in get_args(EfficientNetName)
