"""Rows of a table: trained where they are missing, then measured in accuracy and speed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from dff_edge.experiment.accuracy import Flow, accuracy_at_intervals
from dff_edge.experiment.bundles import Bundles
from dff_edge.experiment.config import ExperimentConfig
from dff_edge.experiment.paper import Published
from dff_edge.experiment.recipe import Recipe, Run
from dff_edge.experiment.results import Results, Row, order
from dff_edge.experiment.runs import Runs
from dff_edge.experiment.speed import Timed, measure_fps
from dff_edge.report.machine import describe_machine


class Method(NamedTuple):
    """Definition of a row.

    Attributes:
        title: its title in the table.
        run: the training run of its networks.
        interval: key interval l.
        flow: source of its flow; unused at l = 1.
        paper: the paper's numbers for it.
    """

    title: str
    run: Run
    interval: int
    flow: Flow = "network"
    paper: Published | None = None


def measure(
    experiment: str,
    config: ExperimentConfig,
    folder: Path,
    seeds: Sequence[int],
    methods: Callable[[Recipe], Mapping[str, Method]],
    claims: Sequence[tuple[str, str]],
) -> Results:
    """Train missing runs, measure every row.

    All rows are measured on the same labelled frames, those with enough frames before them for the
    largest key interval. Speed is that of the first seed's networks: weights make no difference.

    Args:
        experiment: "table4", ...
        config: of the experiment.
        folder: of its training runs and bundles.
        seeds: one training of each row for each.
        methods: the rows of a seed by name, in the order of the table.
        claims: names of rows to compare; those that the table lacks are left out.

    Raises:
        DffEdgeError: as training, evaluation and export do.
    """
    runs = Runs(folder / "runs")
    accuracies: dict[str, list[float]] = {}
    for seed in seeds:  # one seed after the other, so that a broken experiment has whole ones
        rows = methods(Recipe(config.train, seed))
        largest = max(method.interval for method in rows.values())
        for name, method in rows.items():
            values = accuracy_at_intervals(
                runs.checkpoint(method.run),
                runs.folder(method.run),
                config.test,
                largest,
                method.flow,
            )
            accuracies.setdefault(name, []).append(values[method.interval - 1])
    methods_shown = methods(Recipe(config.train, seeds[0]))
    machine = describe_machine()
    fps = _fps(methods_shown, config, runs, Bundles(folder / "bundles"))
    table = tuple(
        Row(
            name=name,
            title=method.title,
            interval=method.interval,
            accuracy=tuple(accuracies[name]),
            fps=fps.get(name),
            paper_accuracy=method.paper.accuracy if method.paper else None,
            paper_fps=method.paper.fps if method.paper else None,
        )
        for name, method in methods_shown.items()
    )
    return Results(
        experiment=experiment,
        metric=config.metric,
        seeds=tuple(seeds),
        rows=table,
        orderings=order(table, claims),
        config=config.model_dump(mode="json"),
        machine=machine,
    )


def _fps(
    methods: Mapping[str, Method], config: ExperimentConfig, runs: Runs, bundles: Bundles
) -> dict[str, float]:
    """Return fps by row; without those whose features are copied, which no pipeline computes."""
    timed = {}
    for name, method in methods.items():
        flow = "network" if method.interval == 1 else method.flow  # every frame is a key frame
        if flow != "copy":
            bundle = bundles.of(runs.checkpoint(method.run), name, flow)
            timed[name] = Timed(bundle, method.interval)
    fps = measure_fps(tuple(timed.values()), config.test, config.speed)
    return {name: fps[entry] for name, entry in timed.items()}
