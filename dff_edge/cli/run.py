"""dff-edge run: a bundle on live or recorded video."""

from __future__ import annotations

import signal
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dff_edge.cli.command import Command, command_line, json_option, log_file_of, write_json
from dff_edge.cli.console import say
from dff_edge.cli.options import (
    SWITCH,
    cuda_of,
    cuda_options,
    engine_option,
    keys_option,
    overlap_option,
    policy_option,
    precision_option,
    threads_option,
)
from dff_edge.cli.parameters import BundleName, SourceName, bundle_folder
from dff_edge.cli.run_checks import ServeAddress, SinkName, check_profile, check_run
from dff_edge.cli.run_sources import print_numbers, run_at_once, run_each, run_one, serve

if TYPE_CHECKING:
    from dff_edge.bundle.reader import Bundle
    from dff_edge.runtime.sinks import Style
    from dff_edge.runtime.sinks.names import SinkUri


@click.command(cls=Command)
@click.argument("bundle", type=BundleName())
@click.argument("sources", metavar="SOURCE...", type=SourceName(), nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    "outputs",
    type=SinkName(),
    multiple=True,
    metavar="SINK",
    help="out.mp4, out.jsonl, frames/%06d.png, out.png, labels://FOLDER, display://; may be given "
    "several times. For several sources a folder, out/, or a name for each, 'out/{name}.jsonl'.",
)
@click.option(
    "--serve",
    "address",
    type=ServeAddress(),
    metavar="[HOST:]PORT",
    help="Show picture and numbers in a browser, for this machine alone (8080), or for the network "
    "too (0.0.0.0:8080).",
)
@click.option(
    "--at-once",
    is_flag=True,
    help="Run several SOURCEs at once, as cameras are in any case; recordings run one after "
    "another otherwise.",
)
@click.option(
    "--legend/--no-legend", default=True, show_default=True, help="Name the classes in pictures."
)
@click.option(
    "--opacity",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="Opacity of the classes' colours over the picture.",
)
@click.option(
    "--classes",
    metavar="NAME,NAME,...",
    help="Draw only these classes. Lines, label maps and numbers contain all.",
)
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    help="Draw, write and count only boxes of at least this score. For bundles that detect.  "
    "[default: the bundle's, or 0.5]",
)
@precision_option
@policy_option(is_run=True)
@keys_option
@click.option("--frames", type=click.IntRange(min=1), help="Stop after so many frames.")
@click.option(
    "--depth",
    type=click.IntRange(1, 16),
    help="Frames in flight: more raise the frame rate, 1 has the lowest latency. A live source "
    "accepts 1 only.  [default: 1 for a live source, else 3]",
)
@click.option(
    "--profile",
    "profile_path",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    callback=check_profile,
    help="Write the timeline of the stages on each stream: a .json for ui.perfetto.dev or "
    "chrome://tracing, a .png of the latest frames as a picture.",
)
@engine_option
@overlap_option
@cuda_options
@threads_option
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    bundle: str,
    sources: tuple[str, ...],
    outputs: tuple[SinkUri, ...],
    address: Any,
    at_once: bool,
    legend: bool,
    opacity: float,
    classes: str | None,
    threshold: float | None,
    precision: str,
    policy: str | None,
    keys: str,
    frames: int | None,
    depth: int | None,
    profile_path: Path | None,
    engine: str,
    overlap: str,
    driver: str | None,
    graphs: str,
    warp: str,
    threads: int | None,
    json_path: Path | None,
) -> None:
    """Run BUNDLE on SOURCE, on several cameras at once, or on one recording after another.

    BUNDLE is the folder that export wrote, or the name of a model of `dff-edge zoo`.

    SOURCE is a camera (0, v4l2:///dev/video0, csi://0), a stream (rtsp://..., http://...), a video
    file, a folder or glob of images or of videos, or synthetic://street?seed=5.

    Keys follow it, in quotes for the shell: 'drive.mp4?track=1&deinterlace=off'. ?track=1 plays
    the second video track of a file, ?deinterlace=off (or on) keeps (or treats all pictures as)
    interlaced fields, ?range=29000..31000 (or auto, or full) sets which values of grey pictures are
    black and white, ?as=recording (or live) what an http:// address is, ?rate=30 plays a recording
    as if it were live; see docs/files.md and docs/embedding.md.

    Several cameras share the networks, which are in memory once; one that is lost, or whose output
    is slow, does not touch the others. Their files are named by {name}: camera0, 10.0.0.7, for
    another camera of the same address 10.0.0.7-2.

    The exit code is 0 when each SOURCE came to its end or was stopped (Ctrl-C, SIGTERM), and 1 when
    one of them, or an output, failed; the others are run to their ends before. It is 2 for options
    that do not fit.
    """
    with command_line():
        others = {"--profile": profile_path, "--json": json_path, "--log-file": log_file_of(ctx)}
        plan = check_run(
            sources, outputs, at_once=at_once, is_served=address is not None, others=others
        )
    with ExitStack() as stack:
        # SIGTERM of a service manager ends a run like Ctrl-C: with complete files.
        previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
        stack.callback(signal.signal, signal.SIGTERM, previous)
        listener = None
        if address is not None:  # before anything is opened: another run may have the port
            from dff_edge.serve import listen

            listener = stack.enter_context(listen(address))
        opened = _open_bundle(bundle, precision, engine)

        from dff_edge.runtime.keys import parse_keys
        from dff_edge.runtime.live import Runner, RunOptions

        options = RunOptions(
            precision=precision,  # type: ignore[arg-type]
            policy=policy,
            depth=depth,
            threads=threads,
            engine=engine,  # type: ignore[arg-type]
            overlap=SWITCH[overlap],
            keys=parse_keys(keys),
            cuda=cuda_of(driver, graphs, warp),
            frames=frames,
            style=_style(opened, legend, opacity, classes, threshold),
        )
        server = None
        if listener is not None:
            with command_line():
                server = stack.enter_context(
                    serve(address, listener, opened, plan.sources, options)
                )
        if plan.at_once:
            failure = run_at_once(opened, plan, outputs, options, server, profile_path, json_path)
        elif len(plan.sources) == 1:
            with command_line(), Runner(opened, options) as runner:
                report = run_one(runner, plan.sources[0], outputs, server, profile_path)
            numbers = report.numbers
            if not write_json(json_path, numbers):
                print_numbers(numbers)
            failure = report.failure
        else:
            with Runner(opened, options) as runner:
                failure = run_each(runner, plan.sources, outputs, profile_path, json_path)
    if failure is not None:
        raise click.ClickException(failure)


def _open_bundle(name: str, precision: str, engine: str) -> Bundle:
    """Open a bundle, and print the card of a model that comes with dff-edge."""
    from dff_edge.bundle.reader import Bundle
    from dff_edge.bundle.shipped import shipped_models
    from dff_edge.runtime.engines.backends import backend_of
    from dff_edge.zoo.card import read_card

    flavour = backend_of(engine).flavour
    folder = bundle_folder(name, (precision,), flavour=flavour)  # an export takes a minute
    if name in shipped_models() and folder != Path(name):
        card = read_card(name)
        height, width = card.frame_size
        say(
            f"{name}: {card.summary} Made from {card.data.name} at {height}x{width}: "
            f"{', '.join(card.classes)}. {card.limits}"
        )
    return Bundle.open(folder)


def _style(
    bundle: Bundle, legend: bool, opacity: float, classes: str | None, threshold: float | None
) -> Style:
    from dff_edge.runtime.sinks import Style
    from dff_edge.runtime.tasks import task_of

    manifest = bundle.manifest
    if threshold is not None and not task_of(manifest).gives_scores:
        raise click.BadParameter(
            f"{bundle.path} does {manifest.task}, and returns no boxes.", param_hint="--threshold"
        )
    shown = None
    if classes is not None:
        names = [name.strip() for name in classes.split(",")]
        for name in names:
            if name not in manifest.class_names:
                raise click.BadParameter(
                    f"'{name}' is no class of {bundle.path}, expected some of "
                    f"{', '.join(manifest.class_names)}.",
                    param_hint="--classes",
                )
        shown = frozenset(manifest.class_names.index(name) for name in names)
    return Style(legend, opacity, threshold, shown)
