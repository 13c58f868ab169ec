"""Object detection by R-FCN in torch."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from dff_edge.boxes import Detections, in_source_pixels
from dff_edge.trainer.config import StageConfig
from dff_edge.trainer.data.pairs import PairBatch
from dff_edge.trainer.detection.loss import detection_loss
from dff_edge.trainer.losses import unexplained_variance
from dff_edge.trainer.models import DeepFeatureFlow, RfcnMaps, detect
from dff_edge.trainer.models.dff import join
from dff_edge.trainer.tasks.base import Size, TrainedTask


class TrainedDetection(TrainedTask):
    """The four losses of R-FCN; detections."""

    name = "detection"

    def losses(
        self,
        model: DeepFeatureFlow,
        maps: RfcnMaps,
        batch: PairBatch,
        stage: StageConfig,
        *,
        class_weights: Tensor | None,
        step: int,
    ) -> Mapping[str, Tensor]:
        """See ``TrainedTask.losses``."""
        assert model.rfcn is not None
        return detection_loss(
            maps,
            (batch["current"].shape[2], batch["current"].shape[3]),
            model.rfcn,
            batch["boxes"],
            batch["box_labels"],
            hard_examples=stage.hard_examples,
            step=step,
        )._asdict()

    def distillation_loss(self, maps: RfcnMaps, target: RfcnMaps) -> Tensor:
        """Return the unexplained share of the maps' variance. See ``TrainedTask``."""
        return unexplained_variance(join(maps), join(target))

    def predict(
        self, model: DeepFeatureFlow, maps: RfcnMaps, frame_size: Size, size: Size
    ) -> Detections:
        """See ``TrainedTask.predict``."""
        assert model.rfcn is not None
        (found,) = detect(maps, frame_size, model.rfcn)
        return in_source_pixels(found, frame_size, size)


TASK = TrainedDetection()
