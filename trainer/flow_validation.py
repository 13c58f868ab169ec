"""Average end-point error (AEPE) of the flow network on pairs with true flow.

It is measured at the cells of the feature map, where the flow is used; published numbers of flow
networks are for every pixel, after interpolation, and a little larger.
"""

from __future__ import annotations

import logging

import lightning
import torch
from lightning.pytorch.callbacks import Callback

from dff_edge.trainer.data.pairs import PairData
from dff_edge.trainer.learner import Learner
from dff_edge.trainer.losses import end_point_errors
from dff_edge.trainer.models import DeepFeatureFlow, half_frame

_log = logging.getLogger("dff_edge.trainer")


@torch.inference_mode()
def average_end_point_error(model: DeepFeatureFlow, pairs: PairData) -> float:
    """Measure a model's flow network, which is put into evaluation mode.

    Args:
        model: on any device.
        pairs: with true flow.

    Returns:
        The mean of |M - M_true| over all cells whose flow is known, in feature cells; NaN where
        there are none.
    """
    model.eval()
    device = next(model.parameters()).device
    total, count = 0.0, 0
    for index in range(len(pairs)):
        batch = pairs[index]
        key, current = (half_frame(batch[name].to(device).float()) for name in ("key", "current"))
        flow, _ = model.estimate_flow(key, current)
        errors = end_point_errors(flow, batch["flow_px"].to(device) / model.feature.stride)
        total, count = total + float(errors.sum()), count + errors.numel()
    return total / count if count else float("nan")


class FlowValidation(Callback):
    """The AEPE on held-out pairs, every few epochs, in cells and in pixels of half-size frames.

    Args:
        pairs: with true flow.
        every: epochs between two validations; the last epoch always ends with one.
    """

    def __init__(self, pairs: PairData, every: int) -> None:
        self._pairs = pairs
        self._every = every

    def on_train_epoch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Measure and log. See ``Callback``."""
        assert isinstance(pl_module, Learner)
        if not trainer.is_global_zero or not is_due(trainer, pl_module, self._every):
            return
        cells = average_end_point_error(pl_module.model, self._pairs)
        for name, value in (
            ("val_aepe_cells", cells),
            ("val_aepe_half_px", cells * pl_module.model.feature.stride / 2),
        ):
            pl_module.log(name, value, rank_zero_only=True)
            _log.info("step %d: %s %.4f", trainer.global_step, name, value)


def is_due(trainer: lightning.Trainer, learner: Learner, every: int) -> bool:
    """Return whether validation is due after this epoch: every ``every`` ones, and at the end."""
    is_last = trainer.global_step >= learner.stage.steps
    return (trainer.current_epoch + 1) % every == 0 or is_last
