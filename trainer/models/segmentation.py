"""The task network of semantic segmentation: one 1x1 convolution.

Runs on every frame, so it has to stay tiny.

Source: Zhu et al., "Deep Feature Flow for Video Recognition", CVPR 2017,
    https://arxiv.org/abs/1611.07715, section 4, "Semantic Segmentation".
Differs from the paper: softmax is left to the loss; K counts the background where a
    data set has one.

Shapes: N batch, C channels, K classes, h x w feature map.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn

from dff_edge.trainer.models.task_head import TaskHead


class SegmentationHead(TaskHead):
    """Turn features into score maps, one per class.

    Args:
        channels: C, channels of the features.
        classes: K, number of score maps.
    """

    class_layers: ClassVar[Mapping[str, int]] = {"score": 0}

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.score = nn.Conv2d(channels, classes, 1)
        nn.init.normal_(self.score.weight, std=0.01)
        assert self.score.bias is not None
        nn.init.zeros_(self.score.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Compute scores before softmax, ``(N, C, h, w)`` to ``(N, K, h, w)``."""
        scores: Tensor = self.score(features)
        return scores
