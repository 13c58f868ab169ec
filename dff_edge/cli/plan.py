"""dff-edge plan: how to run a bundle on this machine, searched before it runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from dff_edge.cli.command import Command, command_line, json_option, write_json
from dff_edge.cli.console import progress, say
from dff_edge.cli.parameters import BundleName, FrameSize, Precisions, Seconds, bundle_folder
from dff_edge.runtime.engines.backends import BACKENDS

if TYPE_CHECKING:
    from dff_edge.plan.verify import Speed


@click.command(cls=Command)
@click.argument("bundle", type=BundleName())
@click.option(
    "--rate",
    type=click.FloatRange(0, 1000, min_open=True),
    default=30.0,
    show_default=True,
    help="Frames per second of the camera.",
)
@click.option(
    "--max-age",
    type=Seconds(),
    metavar="TIME",
    help="Age of answers, from capture, that 99% of them keep: 50ms, 0.1s.  [default: any]",
)
@click.option(
    "--max-loss",
    type=click.FloatRange(0, 100),
    metavar="POINTS",
    help="Accuracy that may be lost against the full network on every frame.  [default: any]",
)
@click.option(
    "--min-answered",
    type=click.FloatRange(0, 100),
    default=99.0,
    show_default=True,
    metavar="PERCENT",
    help="Frames of the camera that are to be answered.",
)
@click.option(
    "--streams",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="Cameras that share the machine.",
)
@click.option(
    "--source",
    metavar="CLIP",
    help="Measure accuracy here in place of taking the manifest's: labelled video, as of "
    "`evaluate`, or any recording, whose answers are compared with the full network's. A frame of "
    "it counts as one of the camera.",
)
@click.option(
    "--size",
    type=FrameSize(),
    metavar="HEIGHTxWIDTH",
    help="Size of the camera's frames, the height first as for all sizes here: 720x1280.  "
    "[default: that of --source, or of the model]",
)
@click.option("--precisions", type=Precisions(), help="Precisions to choose from.  [default: all]")
@click.option(
    "--engine",
    "engines",
    type=click.Choice(tuple(BACKENDS)),
    multiple=True,
    help="Engine to choose from; may be given several times.  [default: all that are installed]",
)
@click.option("--all", "is_all", is_flag=True, help="Print all candidates, not the best of a kind.")
@click.option(
    "--verify", is_flag=True, help="Run the choice on a paced source, and print the difference."
)
@click.option(
    "--frames",
    type=click.IntRange(min=2),
    default=300,
    show_default=True,
    help="Frames of --verify.",
)
@json_option
def command(
    bundle: str,
    rate: float,
    max_age: float | None,
    max_loss: float | None,
    min_answered: float,
    streams: int,
    source: str | None,
    size: tuple[int, int] | None,
    precisions: tuple[str, ...] | None,
    engines: tuple[str, ...],
    is_all: bool,
    verify: bool,
    frames: int,
    json_path: Path | None,
) -> None:
    """Search how to run BUNDLE on this machine for a camera at a rate.

    The stages are timed here, in every precision, engine and number of threads. A simulation of the
    camera with these times says what each key-frame policy, in order and in the background, gives;
    the best is printed with its `dff-edge run` line.

    Accuracy is over all captured frames, each with the answer that it is left with: one that was
    not answered keeps the answer before it.
    """
    from dff_edge.bundle.reader import Bundle
    from dff_edge.bundle.shipped import ready_precisions, shipped_models
    from dff_edge.cli.plan_report import numbers_of, print_plan, print_verified
    from dff_edge.plan.footage import open_footage
    from dff_edge.plan.judge import Wishes
    from dff_edge.plan.planner import plan_bundle
    from dff_edge.plan.verify import verify as run_choice
    from dff_edge.report.machine import describe_machine

    holding = precisions or ()
    if not holding and bundle in shipped_models() and "int8" in ready_precisions(bundle):
        holding = ("int8",)  # the one to choose from
    opened = Bundle.open(bundle_folder(bundle, holding))
    with command_line():
        wishes = Wishes(rate, streams, min_answered / 100, max_age, max_loss)
    if size is not None and size[0] > size[1]:
        say(
            f"frames of --size {size[0]}x{size[1]} are {size[0]} px high and {size[1]} px wide; a "
            f"camera of {size[0]} by {size[1]} px has --size {size[1]}x{size[0]}"
        )
    machine = describe_machine()
    measured: Speed | None = None
    with open_footage(opened, source, size) as footage:
        with progress("setups") as update:
            plan = plan_bundle(
                opened,
                footage,
                wishes,
                precisions=precisions,  # type: ignore[arg-type]
                engines=engines or None,
                say=say,
                progress=update,
            )
        if verify:
            say(f"running {plan.best.candidate.setup}, {plan.best.candidate.policy}")
            measured = run_choice(
                opened,
                plan.best.candidate,
                footage.images,
                rate=rate,
                frames=frames,
                streams=streams,
            )
    if write_json(json_path, numbers_of(plan, opened, measured, machine.model_dump(mode="json"))):
        return
    height, width = footage.images[0].shape[:2]
    cameras = "a camera" if streams == 1 else f"each of {streams} cameras"
    click.echo(f"{machine}")
    click.echo(
        f"{cameras} of {height}x{width} px (height x width) at {rate:g} Hz; planned in "
        f"{plan.seconds:.0f} s\n"
    )
    print_plan(plan, opened, is_all=is_all)
    if machine.is_busy:
        click.echo(
            f"\nOther programs kept {machine.busy_cores:g} of {machine.cores} cores busy: the "
            "times hold beside them."
        )
    if measured is not None:
        print_verified(plan, measured)
