"""dff-edge import-weights: published weights as weights to start from."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from dff_edge.cli.command import Command, json_option, write_json
from dff_edge.errors import require

_SHOWN = 8  # number of left-out tensors that are shown


@click.command(cls=Command)
@click.argument("weights", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Folder to write; the result of an older import in it is replaced.",
)
@click.option(
    "--caffe",
    "is_caffe",
    is_flag=True,
    help="The weights come from Caffe: BGR frames; in a ResNet strides on the 1x1 convolutions and "
    "frames less their mean alone. The official .params do not need this option.",
)
@click.option(
    "--mean",
    type=(float, float, float),
    metavar="B G R",
    help="Mean of the model that will use them, 0..255.  [default: that of the feature network "
    "in the file, or torchvision's]",
)
@click.option(
    "--std",
    type=(float, float, float),
    metavar="B G R",
    help="Its deviations, with the same default.",
)
@json_option
def command(
    weights: Path,
    output: Path,
    is_caffe: bool,
    mean: tuple[float, float, float] | None,
    std: tuple[float, float, float] | None,
    json_path: Path | None,
) -> None:
    """Write the networks in WEIGHTS as weights for `dff-edge train` to start from.

    WEIGHTS is a ResNet-18, 50 or 101 of torchvision, flownets or flownets_bn of FlowNetPytorch, the
    flow network or the backbone of mmtracking, or MXNet .params of the official Deep Feature Flow.
    The kind of file is detected by its content. Nothing in it is executed.

    Prints the settings that a training configuration needs to use them.
    """
    for module in ("torch", "yaml"):
        require(module, extra="train", purpose="dff-edge import-weights")
    from dff_edge.trainer.importing import import_weights

    card = import_weights(weights, output, is_caffe=is_caffe, mean=mean, std=std)
    if write_json(json_path, asdict(card)):
        return
    click.echo(f"# {card.origin}: {', '.join(card.networks)} network")
    if card.left_out:
        more = len(card.left_out) - _SHOWN
        shown = ", ".join(card.left_out[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
        click.echo(f"# not imported: {shown}")
    for note in card.notes:
        click.echo(f"# {note}")
    if "task" in card.model:
        click.echo("# Add the names and colours of the classes: no file has them.")
    click.echo(card.config(output), nl=False)
