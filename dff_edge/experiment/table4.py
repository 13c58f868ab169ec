"""Table 4: Deep Feature Flow against per-frame evaluation, hand-crafted flow and its variants.

Source: Zhu et al., CVPR 2017, arXiv:1611.07715, Tables 3 and 4, and section 5.2.
Differs from the paper: see ``recipe.py``. Rows without a number in the paper are added: key
    features copied without any flow, other hand-crafted flow, and DFF without scale field, of which
    the paper states that it loses less than one percent.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dff_edge.experiment.config import ExperimentConfig
from dff_edge.experiment.measure import Method, measure
from dff_edge.experiment.paper import TABLE_4
from dff_edge.experiment.recipe import Recipe
from dff_edge.experiment.results import Results

_CLAIMS = (
    ("dff-fix-n", "dff-fix-f"),
    ("dff-fix-f", "dff-separate"),
    ("dff-separate", "copied"),
    ("sff-siftflow-slow", "sff-siftflow-fast"),
)


def run_table4(config: ExperimentConfig, folder: Path, seeds: Sequence[int]) -> Results:
    """Measure all rows; arguments and errors are those of ``measure``."""
    names = methods(Recipe(config.train, seeds[0]), config)
    against = [("dff", name) for name in names if name not in ("frame", "dff")]
    claims = [("frame", "dff"), *against, *_CLAIMS]
    return measure("table4", config, folder, seeds, lambda recipe: methods(recipe, config), claims)


def methods(recipe: Recipe, config: ExperimentConfig) -> dict[str, Method]:
    """Return the rows of a seed by name, in the order of the table."""
    interval, model = config.interval, config.train.model
    paper = TABLE_4[model.task.name]
    frame = recipe.frame()
    no_scale = model.model_copy(update={"flow": model.flow.model_copy(update={"scale": False})})
    rows = {"frame": Method("Frame", frame, 1, "copy", paper["frame"])}
    for flow in config.flow_functions:
        rows[f"sff-{flow}"] = Method(f"SFF, {flow}", frame, interval, flow, paper.get(flow))
    for name, title, run in (
        ("dff", "DFF", recipe.dff()),
        ("dff-fix-n", "DFF fix N", recipe.dff("dff-fix-n", fixed=("feature", "task"))),
        ("dff-fix-f", "DFF fix F", recipe.dff("dff-fix-f", fixed=("flow",))),
        ("dff-separate", "DFF separate", recipe.separate()),
        ("dff-no-scale", "DFF without scale", recipe.dff("dff-no-scale", model=no_scale)),
    ):
        rows[name] = Method(title, run, interval, paper=paper.get(name))
    rows["copied"] = Method("Frame, features copied", frame, interval, "copy")
    return rows
