"""The networks of Deep Feature Flow, and their costs.

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
    task_layers,
)
from dff_edge.trainer.models.config import (
    FeatureConfig,
    FlowConfig,
    ModelConfig,
    build_model,
)
from dff_edge.trainer.models.correction import CorrectionNetwork
from dff_edge.trainer.models.detect import detect
from dff_edge.trainer.models.dff import DeepFeatureFlow
from dff_edge.trainer.models.efficientnet import EfficientNetLite
from dff_edge.trainer.models.feature import FeatureNetwork
from dff_edge.trainer.models.flow_network import FlowNetwork
from dff_edge.trainer.models.flownet import (
    FlowNetHalf,
    FlowNetInception,
    FlowNetSimple,
    build_flow_network,
)
from dff_edge.trainer.models.mobilenet import MobileNetV2
from dff_edge.trainer.models.normalize import Normalize, half_frame
from dff_edge.trainer.models.resnet import ResNet
from dff_edge.trainer.models.rfcn import RfcnHead, RfcnMaps
from dff_edge.trainer.models.segmentation import SegmentationHead
from dff_edge.trainer.models.task_config import DetectionConfig, SegmentationConfig, TaskConfig
from dff_edge.trainer.models.warp import warp_features

__all__ = [
    "CorrectionNetwork",
    "DeepFeatureFlow",
    "DetectionConfig",
    "EfficientNetLite",
    "FeatureConfig",
    "FeatureNetwork",
    "FlowConfig",
    "FlowNetHalf",
    "FlowNetInception",
    "FlowNetSimple",
    "FlowNetwork",
    "MobileNetV2",
    "ModelConfig",
    "Normalize",
    "ResNet",
    "RfcnHead",
    "RfcnMaps",
    "SegmentationConfig",
    "SegmentationHead",
    "TaskConfig",
    "approximate_cost_ratio",
    "build_flow_network",
    "build_model",
    "cost_ratio",
    "detect",
    "feature_macs",
    "flow_macs",
    "freeze_batch_norm",
    "half_frame",
    "macs",
    "speedup",
    "task_layers",
    "warp_features",
]
