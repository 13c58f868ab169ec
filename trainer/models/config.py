"""The configuration of a model: everything needed to build it before its weights come."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from dff_edge.trainer.models.dff import DeepFeatureFlow
from dff_edge.trainer.models.flownet import FlowNetName, build_flow_network
from dff_edge.trainer.models.resnet import FEATURE_STRIDE_PX, FeatureNetwork, ResNetName
from dff_edge.trainer.models.segmentation import SegmentationHead
from dff_edge.trainer.models.task_config import TaskConfig

# ImageNet's, in BGR order and units of 0..255.
_MEAN = (103.53, 116.28, 123.675)
_STD = (57.375, 57.12, 58.395)

Triple = tuple[float, float, float]
# Feature cells are whole only at multiples of the stride; half of such a frame has whole
# cells at its stride of 8 too.
FrameSide = Annotated[int, Field(ge=2 * FEATURE_STRIDE_PX, multiple_of=FEATURE_STRIDE_PX)]


class _Config(BaseModel):
    # NaN and unknown keys are refused by name; a field called model_* is nobody's here.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class FeatureConfig(_Config):
    """The feature network.

    Attributes:
        name: which ResNet.
        width: multiplies the kernels of every layer but the last.
        channels: C; None takes 1024, or 256 for ResNet-18.
        stride_in_1x1: for bottleneck weights of the original kind.
    """

    name: ResNetName = "resnet101"
    width: float = Field(default=1.0, gt=0)
    channels: int | None = Field(default=None, ge=1)
    stride_in_1x1: bool = False

    @model_validator(mode="after")
    def _check_stride(self) -> FeatureConfig:
        if self.stride_in_1x1 and self.name == "resnet18":
            raise ValueError(
                "stride_in_1x1 is true, but the blocks of resnet18 have no 1x1 convolution. "
                "Leave it out, or take resnet50 or resnet101."
            )
        return self


class FlowConfig(_Config):
    """The flow network.

    Attributes:
        name: which FlowNet.
        width: multiplies the kernels of every layer but the heads.
        scale: whether there is a scale field.
    """

    name: FlowNetName = "inception"
    width: float = Field(default=1.0, gt=0)
    scale: bool = True


class ModelConfig(_Config):
    """A whole model.

    Attributes:
        feature: the feature network.
        flow: the flow network.
        task: the task network.
        frame_size: ``(H, W)`` in pixels that the networks see, multiples of 16.
        mean: per channel, BGR, 0..255.
        std: per channel, BGR, 0..255.
    """

    feature: FeatureConfig = FeatureConfig()
    flow: FlowConfig = FlowConfig()
    task: TaskConfig
    frame_size: tuple[FrameSide, FrameSide]
    mean: Triple = _MEAN
    std: tuple[
        Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]
    ] = _STD

    @property
    def channels(self) -> int:
        """C, with the default of the feature network filled in."""
        if self.feature.channels is not None:
            return self.feature.channels
        return FeatureNetwork.default_channels(self.feature.name)


def build_model(config: ModelConfig) -> DeepFeatureFlow:
    """Build the model of a configuration, with weights as at the start of training.

    Args:
        config: a checked configuration.

    Returns:
        The model in training mode on the default device. Under
        ``torch.device("meta")`` it takes no memory.
    """
    feature = FeatureNetwork(
        config.feature.name,
        width=config.feature.width,
        channels=config.channels,
        stride_in_1x1=config.feature.stride_in_1x1,
    )
    flow = build_flow_network(
        config.flow.name,
        config.channels if config.flow.scale else None,
        width=config.flow.width,
    )
    task = SegmentationHead(config.channels, len(config.task.classes))
    return DeepFeatureFlow(feature, flow, task, mean=config.mean, std=config.std)
