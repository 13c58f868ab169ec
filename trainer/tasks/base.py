"""A task in the trainer: its loss, and the results of a torch model for a frame."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from dff_edge.trainer.config import StageConfig
from dff_edge.trainer.data.pairs import PairBatch
from dff_edge.trainer.models import DeepFeatureFlow

Size = tuple[int, int]  # H, W


class TrainedTask(ABC):
    """The interface of a task for the trainer, beside its network.

    Attributes:
        name: of the task.
    """

    name: ClassVar[str]

    @abstractmethod
    def losses(
        self,
        model: DeepFeatureFlow,
        maps: Any,
        batch: PairBatch,
        stage: StageConfig,
        *,
        class_weights: Tensor | None,
        step: int,
    ) -> Mapping[str, Tensor]:
        """Compute the losses of a batch, whose sum is trained.

        Args:
            model: the model of the maps.
            maps: outputs of its task network for the current frames.
            batch: their labels or boxes.
            stage: settings of the stage.
            class_weights: ``(K,)``, or None for equal weights.
            step: optimiser steps done so far.

        Returns:
            A scalar for each part, by its name; they are logged where there are several.
        """

    @abstractmethod
    def distillation_loss(self, maps: Any, target: Any) -> Tensor:
        """Compute how far maps of propagated features are from those of the frame's own.

        Args:
            maps: outputs of the task network, trained.
            target: the same of the per-frame network, what they should become.

        Returns:
            A scalar, 0 where they are equal.
        """

    @abstractmethod
    def predict(self, model: DeepFeatureFlow, maps: Any, frame_size: Size, size: Size) -> Any:
        """Return the result for one frame, as the runtime does.

        Args:
            model: the model of the maps.
            maps: outputs of its task network for the frame.
            frame_size: ``(H, W)`` of the networks.
            size: ``(H, W)`` of the source frame.
        """
