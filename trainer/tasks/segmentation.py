"""Semantic segmentation in torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from dff_edge.frames import LabelMap
from dff_edge.runtime.kernels.decode import decode_labels
from dff_edge.trainer.config import StageConfig
from dff_edge.trainer.data.pairs import PairBatch
from dff_edge.trainer.losses import score_divergence, segmentation_loss
from dff_edge.trainer.models import DeepFeatureFlow
from dff_edge.trainer.tasks.base import Size, TrainedTask


class TrainedSegmentation(TrainedTask):
    """Softmax loss per pixel; label maps."""

    name = "segmentation"

    def losses(
        self,
        model: DeepFeatureFlow,
        maps: Tensor,
        batch: PairBatch,
        stage: StageConfig,
        *,
        class_weights: Tensor | None,
        step: int,
    ) -> Mapping[str, Tensor]:
        """See ``TrainedTask.losses``."""
        return {"softmax": segmentation_loss(maps, batch["labels"], class_weights)}

    def distillation_loss(self, maps: Tensor, target: Tensor) -> Tensor:
        """Return the divergence of the classes' probabilities. See ``TrainedTask``."""
        return score_divergence(maps, target)

    def predict(self, model: DeepFeatureFlow, maps: Any, frame_size: Size, size: Size) -> LabelMap:
        """See ``TrainedTask.predict``."""
        scores = maps[0].permute(1, 2, 0).cpu().contiguous()
        return decode_labels(scores.float().numpy(), size, threads=torch.get_num_threads())


TASK = TrainedSegmentation()
