"""dff-edge data: what a data set on disk holds and lacks, before a day of training is wasted."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dff_edge.cli.options import Command, json_option, write_json

if TYPE_CHECKING:
    from dff_edge.report.data_check import SplitReport

# As in dff_edge.report.data_check, importing which costs time.
NAMES = ("cityscapes", "vid", "det", "camvid", "cocovid", "flyingchairs", "folder")
_SHOWN = 5  # problems of a split


@click.group()
def command() -> None:
    """Look at data sets."""


@command.command(cls=Command)
@click.argument("name", type=click.Choice(NAMES))
@click.argument("root", type=click.Path(path_type=Path))
@click.option(
    "--open",
    "to_open",
    type=click.Choice(["none", "sample", "all"]),
    default="sample",
    show_default=True,
    help="Labelled frames to open, with the frame before: 50 of each split, or all.",
)
@click.option(
    "--option",
    "options",
    multiple=True,
    metavar="KEY=VALUE",
    help="An option of the data set's name, for example ids=30 or images=FOLDER.",
)
@json_option
@click.pass_context
def check(
    ctx: click.Context,
    name: str,
    root: Path,
    to_open: str,
    options: tuple[str, ...],
    json_path: Path | None,
) -> None:
    """Say what the data set NAME in ROOT holds and lacks.

    Exit code 1: no split can be used, or a file that was opened is damaged.
    """
    from dff_edge.report.data_check import SAMPLE, check_data, is_usable

    most = {"none": 0, "sample": SAMPLE, "all": None}[to_open]
    given = _parsed(name, root, options)
    reports = check_data(name, root, given, most=most, progress=_progress)
    usable = is_usable(reports)
    content = {
        "name": name,
        "root": str(root),
        "is_usable": usable,
        "splits": [asdict(report) for report in reports],
    }
    if not write_json(json_path, content):
        for report in reports:
            _print(report)
        click.echo("It can be used." if usable else "It cannot be used as it is.")
    if not usable:
        ctx.exit(1)


def _parsed(name: str, root: Path, options: tuple[str, ...]) -> dict[str, str]:
    """The options of the data set's name, with defaults."""
    from dff_edge.runtime.datasets import parse_data_name

    query = "&".join(options)
    parsed = parse_data_name(f"{name}://{root}" + (f"?{query}" if query else ""))
    if parsed is None and options:
        raise click.UsageError(f"{name} has no options.")
    return {} if parsed is None else parsed.options


def _print(report: SplitReport) -> None:
    click.secho(report.name, bold=True)
    if report.error is not None:
        click.echo(f"  {report.error}")
        return
    click.echo(
        f"  {report.clips} clips, {report.frames} frames, {report.labelled} labelled, "
        f"{report.alone} of them with no frame before"
    )
    if report.opened:
        boxes = f", {report.boxes} boxes" if report.boxes else ""
        click.echo(f"  opened {report.opened} labelled frames{boxes}")
        if report.classes:
            counts = (f"{name} {count}" for name, count in report.classes.items())
            click.echo(f"  frames of each class: {', '.join(counts)}")
    for problem in report.problems[:_SHOWN]:
        click.echo(f"  problem: {problem}")
    if len(report.problems) > _SHOWN:
        click.echo(f"  and {len(report.problems) - _SHOWN} more problems")


def _progress(split: str, done: int, total: int) -> None:
    if sys.stderr.isatty():
        click.echo(f"\r{split}: {done}/{total}", nl=done == total, err=True)
