"""dff-edge data: contents and faults of labelled data, and a part of it held out from training."""

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
    """Check and divide labelled data."""


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


@command.command(cls=Command)
@click.argument("source", metavar="SOURCE")
@click.option(
    "-o",
    "--output",
    "folder",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Folder of the two parts; new or empty.",
)
@click.option(
    "--share",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.2,
    show_default=True,
    help="Share of the labelled frames that is held out, about.",
)
@json_option
def split(source: str, folder: Path, share: float, json_path: Path | None) -> None:
    """Divide labelled data into a part to train on and one that is held out.

    SOURCE is a labelled folder or cocovid://FILE.json. Every n-th clip is held out, or of few clips
    every n-th block of consecutive frames, for a frame's neighbours are nearly the same. Prints the
    names of both parts, for data.train and data.validate_on.

    To choose by hand, move clips (or blocks) between FOLDER/train and FOLDER/val.
    """
    from dff_edge.data.split import split_data
    from dff_edge.report.data_check import check_data

    parts = split_data(source, folder, share)
    classes = [check_data(part.source)[0].classes for part in parts]
    content = [asdict(part) | {"classes": own} for part, own in zip(parts, classes, strict=True)]
    if write_json(json_path, {"train": content[0], "val": content[1]}):
        return
    for title, part, own in zip(("train", "held out"), parts, classes, strict=True):
        click.secho(f"{title}: {printable(part.source)}", bold=True)
        clips = "1 clip or block" if len(part.clips) == 1 else f"{len(part.clips)} clips or blocks"
        click.echo(f"  {part.labelled} labelled frames of {clips}")
        _print_classes(own)
        for name in part.clips[:_SHOWN]:
            click.echo(f"  {printable(name)}")
        if len(part.clips) > _SHOWN:
            click.echo(f"  and {len(part.clips) - _SHOWN} more")
    for here, there, text in (
        (classes[0], classes[1], "held out, so that it is not measured"),
        (classes[1], classes[0], "left to train on"),
    ):
        lacking = [name for name, count in here.items() if count and not there.get(name)]
        if lacking:
            click.echo(
                f"warning: nothing of {printable(', '.join(lacking))} is {text}. Give another "
                "--share, or choose by hand."
            )


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
    from dff_edge.trainer.completion import load_whole_config

    config = load_whole_config(config_path)
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
        f"  {report.clips} {'clip' if report.clips == 1 else 'clips'}, {report.frames} frames, "
        f"{report.labelled} labelled, {report.alone} of them with no frame before"
    )
    if report.opened:
        boxes = f", {report.boxes} boxes" if report.boxes else ""
        scored = ""
        if report.not_scored is not None:
            scored = f", {1 - report.not_scored:.1%} of the pixels scored"
        click.echo(f"  opened {report.opened} labelled frames{boxes}{scored}")
        _print_classes(report.classes)
    for severity in ("error", "warning", "note"):
        texts = [found.text for found in report.findings if found.severity == severity]
        _print_some(severity, texts)
    _print_some("problem", report.problems)


def _print_classes(classes: dict[str, int]) -> None:
    if classes:
        counts = (f"{printable(name)} {count}" for name, count in classes.items())
        click.echo(f"  frames of each class: {', '.join(counts)}")


def _print_some(kind: str, lines: list[str]) -> None:
    for line in lines[:_SHOWN]:
        click.echo(f"  {kind}: {printable(line)}")
    if len(lines) > _SHOWN:
        more = len(lines) - _SHOWN
        click.echo(f"  and {more} more {kind}{'s' if more > 1 else ''}")


def _progress(split: str, done: int, total: int) -> None:
    if sys.stderr.isatty():
        click.echo(f"\r{split}: {done}/{total}", nl=done == total, err=True)
