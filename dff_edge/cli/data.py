"""dff-edge data: contents and faults of labelled data, before a day of training is wasted."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dff_edge.cli.command import Command, json_option, write_json
from dff_edge.errors import ConfigError, require
from dff_edge.printable import printable

if TYPE_CHECKING:
    from dff_edge.report.data_check import SplitReport, Wanted
    from dff_edge.trainer.config import TrainConfig

_SHOWN = 5  # lines of a kind


@click.group()
def command() -> None:
    """Check labelled data."""


@command.command(cls=Command)
@click.argument("sources", metavar="[SOURCE]", nargs=-1)
@click.option(
    "--config",
    "config_path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="CONFIG",
    help="A training configuration: its classes, task and anchors are checked against the data. "
    "Without SOURCE the data that it trains and validates on is checked.",
)
@click.option(
    "--classes",
    metavar="NAME,NAME,...",
    help="Names of the classes in the order of their numbers, or how many there are, instead of "
    "--config.",
)
@click.option(
    "--open",
    "to_open",
    type=click.Choice(["none", "sample", "all"]),
    default="sample",
    show_default=True,
    help="Labelled frames to open, with the frame before: 50 of each split, or all.",
)
@json_option
@click.pass_context
def check(
    ctx: click.Context,
    sources: tuple[str, ...],
    config_path: Path | None,
    classes: str | None,
    to_open: str,
    json_path: Path | None,
) -> None:
    """Report what labelled data holds and lacks, and whether it can be used.

    SOURCE is a name as for train, evaluate and calibrate: a folder with images/ and labels/,
    cityscapes://ROOT, camvid://ROOT, vid://ROOT, det://ROOT, cocovid://FILE.json?images=FOLDER or
    ?videos=FOLDER, cvat://FILE.xml, vid+det://ROOT, flyingchairs://ROOT. If it names no split, all
    are checked.

    Exit code 1: it cannot be used, or a file that was opened is damaged or contradictory.
    """
    from dff_edge.report.data_check import SAMPLE, check_data, is_usable

    if len(sources) > 1:
        raise click.UsageError(
            f"Expected one SOURCE, got {len(sources)}: {printable(', '.join(sources))}. Kind, "
            "place and keys are one name, as in 'cocovid://ann.json?images=frames'; a labelled "
            "folder is named by its path alone."
        )
    sources, wanted = _asked(sources[0] if sources else None, config_path, classes)
    most = {"none": 0, "sample": SAMPLE, "all": None}[to_open]
    try:
        reports = {uri: check_data(uri, wanted, most=most, progress=_progress) for uri in sources}
    except ConfigError as error:  # of the name
        raise click.UsageError(printable(error)) from error
    usable = all(is_usable(splits) for splits in reports.values())
    content = {
        "is_usable": usable,
        "sources": [
            {
                "source": uri,
                "is_usable": is_usable(splits),
                "splits": [asdict(report) for report in splits],
            }
            for uri, splits in reports.items()
        ],
    }
    if not write_json(json_path, content):
        for uri, splits in reports.items():
            if len(reports) > 1:
                click.secho(printable(uri), bold=True)
            for report in splits:
                _print(report)
        click.echo("It can be used." if usable else "It cannot be used as it is.")
    if not usable:
        ctx.exit(1)


def _asked(
    source: str | None, config_path: Path | None, classes: str | None
) -> tuple[tuple[str, ...], Wanted]:
    """Return the data to check, and what it is to be used for."""
    from dff_edge.report.data_check import Wanted

    if (config_path is not None) and (classes is not None):
        raise click.UsageError("--config names the classes already: leave --classes out.")
    if source is None and config_path is None:
        raise click.UsageError("Give SOURCE, or --config for the data that it names.")
    if config_path is None:
        assert source is not None
        names = None if classes is None else _class_names(classes)
        if names is not None and ("" in names or len(set(names)) < len(names)):
            raise click.UsageError(
                f"--classes is '{classes}', expected each name once, as in road,car."
            )
        return (source,), Wanted(classes=names)
    for module in ("torch", "yaml"):
        require(module, extra="train", purpose="dff-edge data check --config")
    from dff_edge.trainer.config import load_config

    config = load_config(config_path)
    named = (config.data.train, config.data.validate_on)
    sources = (source,) if source is not None else tuple(filter(None, dict.fromkeys(named)))
    return sources, _wanted(config)


def _class_names(classes: str) -> tuple[str, ...]:
    count = int(classes) if classes.isascii() and classes.isdecimal() and len(classes) < 4 else 0
    if 1 <= count <= 255:
        return tuple(map(str, range(count)))
    return tuple(name.strip() for name in classes.split(","))


def _wanted(config: TrainConfig) -> Wanted:
    from dff_edge.bundle.anchors import anchor_sizes
    from dff_edge.data.datasets.findings import Anchors
    from dff_edge.report.data_check import Wanted

    model = config.model
    anchors = None if model.rfcn is None else Anchors(anchor_sizes(model.rfcn), model.frame_size)
    return Wanted(model.task.name, model.task.classes, anchors)


def _print(report: SplitReport) -> None:
    click.secho(report.name, bold=True)
    if report.error is not None:
        click.echo(f"  {printable(report.error)}")
        return
    click.echo(
        f"  {report.clips} clips, {report.frames} frames, {report.labelled} labelled, "
        f"{report.alone} of them with no frame before"
    )
    if report.opened:
        boxes = f", {report.boxes} boxes" if report.boxes else ""
        scored = ""
        if report.not_scored is not None:
            scored = f", {1 - report.not_scored:.1%} of the pixels scored"
        click.echo(f"  opened {report.opened} labelled frames{boxes}{scored}")
        if report.classes:
            counts = (f"{printable(name)} {count}" for name, count in report.classes.items())
            click.echo(f"  frames of each class: {', '.join(counts)}")
    for severity in ("error", "warning", "note"):
        texts = [found.text for found in report.findings if found.severity == severity]
        _print_some(severity, texts)
    _print_some("problem", report.problems)


def _print_some(kind: str, lines: list[str]) -> None:
    for line in lines[:_SHOWN]:
        click.echo(f"  {kind}: {printable(line)}")
    if len(lines) > _SHOWN:
        click.echo(f"  and {len(lines) - _SHOWN} more {kind}s")


def _progress(split: str, done: int, total: int) -> None:
    if sys.stderr.isatty():
        click.echo(f"\r{split}: {done}/{total}", nl=done == total, err=True)
