"""Table 2: cost of a feature network relative to each frame that the flow network propagates.

Source: Zhu et al., CVPR 2017, arXiv:1611.07715, Table 2, 1 / r of Eq. (6).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict

from dff_edge.experiment.config import ExperimentConfig
from dff_edge.experiment.figure3 import check_networks
from dff_edge.experiment.paper import TABLE_2
from dff_edge.experiment.results import markdown_table, number
from dff_edge.trainer.models import build_model
from dff_edge.trainer.models.complexity import approximate_cost_ratio, cost_ratio


class Cost(BaseModel):
    """A cell of Table 2.

    Attributes:
        feature, flow: names of the networks.
        inverse_ratio: 1 / r of Eq. (6), flow network with scale head against feature network.
        inverse_full_ratio: 1 / r of Eq. (5), with warp and task network.
        paper: the paper's 1 / r; None for networks that are not in the paper.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    feature: str
    flow: str
    inverse_ratio: float
    inverse_full_ratio: float
    paper: float | None


class Costs(BaseModel):
    """All of Table 2.

    Attributes:
        frame_size: ``(H, W)`` in pixels of the count.
        cells: of the table.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    frame_size: tuple[int, int]
    cells: tuple[Cost, ...]

    def markdown(self) -> str:
        """Return the table, the paper's numbers beside ours."""
        lines = markdown_table(
            ["networks", "1 / r, Eq. (6)", "paper: 1 / r", "1 / r, Eq. (5)"],
            [
                [
                    f"{cell.feature}, {cell.flow}",
                    number(cell.inverse_ratio, 2),
                    number(cell.paper, 2),
                    number(cell.inverse_full_ratio, 2),
                ]
                for cell in self.cells
            ],
        )
        height, width = self.frame_size
        return "\n".join([*lines, "", f"Multiply-adds at {height} x {width} pixels."]) + "\n"


def run_table2(config: ExperimentConfig, folder: Path, seeds: Sequence[int]) -> Costs:
    """Count all pairs of a feature and a flow network; nothing is trained or kept.

    Raises:
        ConfigError: no networks are given.
    """
    check_networks(config)
    cells = []
    for feature in config.features:
        for flow in config.flows:
            settings = config.train.model.model_copy(update={"feature": feature, "flow": flow})
            with torch.device("meta"):
                model = build_model(settings)
            is_whole = feature.width == flow.width == 1.0
            cells.append(
                Cost(
                    feature=feature.name,
                    flow=flow.name,
                    inverse_ratio=1
                    / approximate_cost_ratio(model.feature, model.flow, settings.frame_size),
                    inverse_full_ratio=1 / cost_ratio(model, settings.frame_size),
                    paper=TABLE_2.get((feature.name, flow.name)) if is_whole else None,
                )
            )
    return Costs(frame_size=config.train.model.frame_size, cells=tuple(cells))
