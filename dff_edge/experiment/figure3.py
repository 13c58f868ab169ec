"""Figure 3: accuracy against speed, a curve for each pair of a feature and a flow network.

Source: Zhu et al., CVPR 2017, arXiv:1611.07715, Figure 3 and section 5.2, "Accuracy-Speedup
    Tradeoff". One training serves all key intervals, as its pairs are at all distances.
Differs from the paper: see ``recipe.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dff_edge.errors import ConfigError
from dff_edge.experiment.config import ExperimentConfig
from dff_edge.experiment.measure import Method, measure
from dff_edge.experiment.recipe import Recipe
from dff_edge.experiment.results import Results, Row
from dff_edge.files.atomic import write_atomically
from dff_edge.report.plot import (
    LIGHT,
    Theme,
    add_legend,
    check_plotting,
    new_figure,
    png,
    use_log_axis,
)

_SIZE = (6.4, 4.4)  # inches
_STYLES = ("-", "--", ":", "-.")  # by feature network
COLOURS = ("#44546a", "#c47f17", "#0b7a6b", "#a23b72", "#3d6fb4")  # here by flow network
_LABELLED = (1, 5, 10, 20)  # key intervals


def run_figure3(config: ExperimentConfig, folder: Path, seeds: Sequence[int]) -> Results:
    """Measure all points and draw ``figure3.png``; arguments and errors are those of ``measure``.

    Raises:
        ConfigError: no networks are given.
        MissingDependencyError: matplotlib is not installed.
    """
    check_plotting()  # rather than after an hour of training
    check_networks(config)
    results = measure("figure3", config, folder, seeds, lambda recipe: methods(recipe, config), ())
    write_atomically(folder / "figure3.png", draw_tradeoff(results))
    return results


def check_networks(config: ExperimentConfig) -> None:
    """Raise for a configuration without networks to combine.

    Raises:
        ConfigError: there are no networks.
    """
    if not (config.features and config.flows):
        raise ConfigError(
            f"features has {len(config.features)} and flows {len(config.flows)} networks, expected "
            "one or more of both."
        )


def methods(recipe: Recipe, config: ExperimentConfig) -> dict[str, Method]:
    """Return the points of a seed by name, curve by curve."""
    points = {}
    for feature in config.features:
        for flow in config.flows:
            model = config.train.model.model_copy(update={"feature": feature, "flow": flow})
            title = f"{feature.name} + {flow.name}"
            run = recipe.dff(f"dff-{feature.name}-{flow.name}", model=model)
            for interval in config.intervals:
                points[f"{title} {interval}"] = Method(title, run, interval)
    return points


def draw_tradeoff(results: Results, theme: Theme = LIGHT) -> bytes:
    """Draw a curve for each title among the rows, a point for each key interval.

    Returns:
        A PNG file.
    """
    figure, axes = new_figure(theme, _SIZE)
    curves: dict[str, list[Row]] = {}
    for row in results.rows:
        curves.setdefault(row.title, []).append(row)
    parts = [title.split(" + ") for title in curves]
    features = list(dict.fromkeys(feature for feature, _ in parts))
    flows = list(dict.fromkeys(flow for _, flow in parts))
    for (title, rows), (feature, flow) in zip(curves.items(), parts, strict=True):
        colour = COLOURS[flows.index(flow) % len(COLOURS)]
        xs, ys = [row.fps or 0.0 for row in rows], [100 * row.mean for row in rows]
        style = _STYLES[features.index(feature) % len(_STYLES)]
        axes.plot(xs, ys, marker="o", markersize=4, linestyle=style, color=colour, label=title)
        for x, y, row in zip(xs, ys, rows, strict=True):
            if row.interval in _LABELLED:
                axes.annotate(
                    f"{row.interval}",
                    (x, y),
                    xytext=(4, 4),
                    textcoords="offset points",
                    fontsize=8,
                    color=colour,
                )
    use_log_axis(axes, [row.fps for row in results.rows if row.fps is not None])
    axes.set_xlabel("frames per second")
    axes.set_ylabel(f"{results.metric} (DFF at \u2113 = 1, 5, 10, as numbered), %")
    add_legend(axes, theme)
    return png(figure)
