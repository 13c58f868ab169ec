"""The networks of Deep Feature Flow, and what they cost.

Source: Zhu et al., "Deep Feature Flow for Video Recognition", CVPR 2017,
    https://arxiv.org/abs/1611.07715.
"""

from dff_edge.trainer.models.batch_norm import freeze_batch_norm
from dff_edge.trainer.models.complexity import (
    approximate_cost_ratio,
    cost_ratio,
    feature_macs,
    flow_macs,
    macs,
    speedup,
)
from dff_edge.trainer.models.config import (
    FeatureConfig,
    FlowConfig,
    ModelConfig,
    build_model,
)
from dff_edge.trainer.models.dff import DeepFeatureFlow
from dff_edge.trainer.models.flownet import (
    FlowNetHalf,
    FlowNetInception,
    FlowNetSimple,
    FlowNetwork,
    build_flow_network,
)
from dff_edge.trainer.models.normalize import Normalize, half_frame
from dff_edge.trainer.models.resnet import FEATURE_STRIDE_PX, FeatureNetwork
from dff_edge.trainer.models.segmentation import SegmentationHead
from dff_edge.trainer.models.task_config import DetectionConfig, SegmentationConfig, TaskConfig
from dff_edge.trainer.models.warp import warp_features

__all__ = [
    "FEATURE_STRIDE_PX",
    "DeepFeatureFlow",
    "DetectionConfig",
    "FeatureConfig",
    "FeatureNetwork",
    "FlowConfig",
    "FlowNetHalf",
    "FlowNetInception",
    "FlowNetSimple",
    "FlowNetwork",
    "ModelConfig",
    "Normalize",
    "SegmentationConfig",
    "SegmentationHead",
    "TaskConfig",
    "approximate_cost_ratio",
    "build_flow_network",
    "build_model",
    "cost_ratio",
    "feature_macs",
    "flow_macs",
    "freeze_batch_norm",
    "half_frame",
    "macs",
    "speedup",
    "warp_features",
]
