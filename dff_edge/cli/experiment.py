"""dff-edge experiment: a table or figure of the paper, or the frontier, trained and measured."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import click

from dff_edge.cli.command import Command
from dff_edge.cli.parameters import Change, Numbers, changed_settings
from dff_edge.errors import require

_TRAINED = ("table4", "table5", "figure3")


class _Seeds(Numbers):
    """A comma-separated list of different whole numbers from 0."""

    def __init__(self) -> None:
        super().__init__(minimum=0)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        seeds = super().convert(value, param, ctx)
        if len(set(seeds)) < len(seeds):
            self.fail(f"'{value}' names a seed twice, which would count it twice.", param, ctx)
        return seeds


@click.command(cls=Command)
@click.argument("experiment", type=click.Choice(("table2", *_TRAINED, "frontier")))
@click.option(
    "--config",
    "config_path",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="YAML file as in configs/experiments/.",
)
@click.option(
    "-o",
    "--output",
    "folder",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    metavar="RUN",
    help="Folder of training runs and results. Finished runs in it are used again.",
)
@click.option(
    "--seeds",
    type=_Seeds(),
    default="0,1,2",
    show_default=True,
    help="Seeds of weights and scenes. table2, which trains nothing, and frontier, whose trainings "
    "have seeds in their configurations, need none.",
)
@click.option(
    "--set",
    "changes",
    type=Change(),
    multiple=True,
    metavar="KEY=VALUE",
    help="Change a setting, as in train.stages.0.steps=100; may be given several times.",
)
def command(
    experiment: str,
    config_path: Path,
    folder: Path,
    seeds: tuple[int, ...],
    changes: tuple[str, ...],
) -> None:
    """Run a table or figure of the paper and put its numbers beside the paper's.

    Or the frontier: Deep Feature Flow against light networks on every frame, accuracy against the
    measured time of a frame, all in INT8.

    Prints the table; RUN holds it as EXPERIMENT.md and, with all numbers, EXPERIMENT.json. An
    interrupted experiment is resumed by the same command.
    """
    for module in ("torch", "lightning", "yaml", "onnxscript", "onnxruntime"):
        require(module, extra="train", purpose="dff-edge experiment")
    for name in ("dff_edge.experiment", "dff_edge.trainer"):
        logging.getLogger(name).setLevel(logging.INFO)
    for name in ("lightning.pytorch", "lightning.fabric"):  # hints and adverts come as INFO
        logging.getLogger(name).setLevel(logging.WARNING)
    from dff_edge.experiment.run import run_experiment

    try:
        with changed_settings():
            text = run_experiment(experiment, config_path, changes, folder, seeds)
        click.echo(text, nl=False)
    except KeyboardInterrupt:
        raise click.ClickException(
            f"Stopped by the keyboard. The same command resumes it in '{folder}'."
        ) from None
