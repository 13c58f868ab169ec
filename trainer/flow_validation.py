"""Average end-point error (AEPE) of the flow network on pairs with true flow.

It is measured at the cells of the feature map, where the flow is used; published numbers of flow
networks are for every pixel, after interpolation, and a little larger.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from dff_edge.trainer.best_weights import BestWeights
from dff_edge.trainer.data.pairs import PairData
from dff_edge.trainer.losses import end_point_errors
from dff_edge.trainer.models import DeepFeatureFlow, half_frame
from dff_edge.trainer.stage_validation import StageValidation


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


class FlowValidation(StageValidation):
    """The AEPE on held-out pairs, in cells and in pixels of half-size frames.

    Args:
        pairs: with true flow.
        every: epochs between two validations.
        best: keeps the best weights.
    """

    higher_is_better = False

    def __init__(self, pairs: PairData, every: int, best: BestWeights | None = None) -> None:
        super().__init__(every, best)
        self._pairs = pairs

    def measure(self, model: DeepFeatureFlow, step: int) -> Mapping[str, float]:
        """See ``StageValidation.measure``."""
        cells = average_end_point_error(model, self._pairs)
        return {"val_aepe_cells": cells, "val_aepe_half_px": cells * model.feature.stride / 2}
