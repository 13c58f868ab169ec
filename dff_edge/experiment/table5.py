"""Table 5: split points of the network, from conv4's last blocks in the task network to none.

Source: Zhu et al., CVPR 2017, arXiv:1611.07715, Table 5 and section 5.2, "Split point".
Differs from the paper: see ``recipe.py``. Rows are matched to those of the paper by the place of
    the split in its ResNet-101; a smaller network has fewer layers after it. Per-frame
    evaluation is added.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dff_edge.errors import ConfigError
from dff_edge.experiment.config import ExperimentConfig
from dff_edge.experiment.measure import Method, measure
from dff_edge.experiment.paper import TABLE_4, TABLE_5
from dff_edge.experiment.recipe import Recipe
from dff_edge.experiment.results import Results


def run_table5(config: ExperimentConfig, folder: Path, seeds: Sequence[int]) -> Results:
    """Measure all rows; arguments and errors are those of ``measure``.

    Raises:
        ConfigError: no splits are given.
    """
    if not config.splits:
        raise ConfigError("splits is empty, expected one or more, as in {1: head, 0: none}.")
    default = config.train.model.split
    claims = [(default, other) for other in config.splits.values() if other != default]
    return measure("table5", config, folder, seeds, lambda recipe: methods(recipe, config), claims)


def methods(recipe: Recipe, config: ExperimentConfig) -> dict[str, Method]:
    """Return the rows of a seed by name, in the order of the table."""
    task = config.train.model.task.name
    paper = TABLE_5[task]
    rows = {"frame": Method("Frame", recipe.frame(), 1, "copy", TABLE_4[task]["frame"])}
    for layers, split in config.splits.items():
        model = config.train.model.model_copy(update={"split": split})
        run = recipe.dff(f"dff-{split}", model=model)
        rows[split] = Method(split, run, config.interval, paper=paper.get(layers))
    return rows
