"""Ready bundles of the shipped models that a wheel carries; `make bundles` runs this module.

They are made from the checkpoints, not committed, and equal byte for byte when they are made again
by the same versions on the same machine: dates in them are those of ``SOURCE_DATE_EPOCH``, and a
calibration depends on the CPU in the last bits.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import click

from dff_edge.bundle import shipped
from dff_edge.bundle.excerpt import write_excerpt
from dff_edge.bundle.reader import Bundle
from dff_edge.bundle.shipped import READY, shipped_models
from dff_edge.errors import DffEdgeError
from dff_edge.zoo.card import read_card


def carried_models() -> tuple[str, ...]:
    """Return the names of the models that a wheel carries, by their cards."""
    return tuple(name for name in shipped_models() if read_card(name).bundle is not None)


def make_ready(name: str, say: Callable[[str], None]) -> Bundle:
    """Export a shipped model, calibrate it, and keep what its card says as its ready bundle.

    Args:
        name: the model's.
        say: called with a line for each step.

    Raises:
        DffEdgeError: it is none that a wheel carries, its clips cannot be read, or a step failed;
            the bundle that was there stays.
    """
    from dff_edge.calibration import calibrate_bundle, open_calibration_clips
    from dff_edge.export import export_bundle
    from dff_edge.trainer.checkpoint import load_checkpoint

    recipe = read_card(name).bundle
    if recipe is None:
        raise DffEdgeError(
            f"'{name}' stays in the repository by its card, expected one of "
            f"{', '.join(carried_models())}."
        )
    model = shipped.MODELS / name
    source = recipe.calibration
    clips = open_calibration_clips(source if "://" in source else str(model / source))
    quantised = tuple(precision for precision in recipe.precisions if precision != "fp32")
    with tempfile.TemporaryDirectory(prefix="dff-edge-") as temporary:
        whole = export_bundle(
            load_checkpoint(model),
            Path(temporary) / name,
            command=f"dff-edge export {name}",
            progress=say,
        )
        if quantised:
            whole = calibrate_bundle(
                whole.path,
                clips,
                source=source,
                flavours=("ort",),
                precisions=quantised,
                progress=say,
            )
        return write_excerpt(whole, model / READY, recipe.precisions)


def main() -> None:
    """Make the ready bundles of all models that a wheel carries, and print their sizes."""
    total = 0
    for name in carried_models():
        bundle = make_ready(name, partial(_say, name))
        size = sum(record.bytes for record in bundle.manifest.files.values())
        total += size
        click.echo(f"{bundle.path}: {', '.join(bundle.precisions)}, {size / 1e6:.1f} MB")
    click.echo(f"{total / 1e6:.1f} MB in all")


def _say(name: str, line: str) -> None:
    click.echo(f"{name}: {line}", err=True)


if __name__ == "__main__":
    try:
        main()
    except DffEdgeError as error:
        sys.exit(f"Error: {error}")
