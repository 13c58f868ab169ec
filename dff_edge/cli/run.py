"""dff-edge run: a bundle on live or recorded video."""

from __future__ import annotations

import logging
import signal
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from dff_edge.cli.command import Command, command_line, json_option, log_file_of, table, write_json
from dff_edge.cli.console import progress, say
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
from dff_edge.cli.run_checks import NAME, ServeAddress, SinkName, check_profile, check_run
from dff_edge.printable import UNDECODED, printable

if TYPE_CHECKING:
    from dff_edge.bundle.reader import Bundle
    from dff_edge.runtime.live import Runner, RunReport
    from dff_edge.runtime.sinks import FanOut, SinkReport, Style
    from dff_edge.runtime.sinks.names import SinkUri
    from dff_edge.runtime.sources import Source
    from dff_edge.serve import Address
    from dff_edge.serve.server import Server

_LOG = logging.getLogger("dff_edge.runtime")


class _Page(NamedTuple):
    """Address of a run's page, and its open port."""

    address: Address
    listener: socket.socket


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
    """Run BUNDLE on SOURCE, or on one SOURCE after another.

    BUNDLE is the folder that export wrote, or the name of a model of `dff-edge zoo`.

    SOURCE is a camera (0, v4l2:///dev/video0, csi://0), a stream (rtsp://..., http://...), a video
    file, a folder or glob of images or of videos, or synthetic://street?seed=5.

    Keys follow it, in quotes for the shell: 'drive.mp4?track=1&deinterlace=off'. ?track=1 plays
    the second video track of a file, ?deinterlace=off (or on) keeps (or treats all pictures as)
    interlaced fields, ?range=29000..31000 (or auto, or full) sets which values of grey pictures are
    black and white, ?as=recording (or live) what an http:// address is, ?rate=30 plays a recording
    as if it were live; see docs/files.md and docs/embedding.md.
    """
    with command_line():
        others = {"--profile": profile_path, "--json": json_path, "--log-file": log_file_of(ctx)}
        expanded = check_run(
            sources, outputs, frames=frames, is_served=address is not None, others=others
        )
    with ExitStack() as stack:
        # SIGTERM of a service manager ends a run like Ctrl-C: with complete files.
        previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
        stack.callback(signal.signal, signal.SIGTERM, previous)
        page = None
        if address is not None:  # before anything is opened: another run may have the port
            from dff_edge.serve import listen

            page = _Page(address, stack.enter_context(listen(address)))
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
        runner = stack.enter_context(Runner(opened, options))
        if len(expanded) == 1:
            with command_line():
                report = _run(runner, expanded[0], outputs, page, profile_path)
            numbers = report.numbers
            if not write_json(json_path, numbers):
                _print(numbers)
            failure = report.failure
        else:
            failure = _run_each(runner, expanded, outputs, profile_path, json_path)
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


def _run_each(
    runner: Runner,
    sources: Sequence[str],
    outputs: Sequence[SinkUri],
    profile_path: Path | None,
    json_path: Path | None,
) -> str | None:
    """Run on one source after another; return what failed."""
    from dff_edge.errors import DffEdgeError
    from dff_edge.uri import parse_source

    runs, failures = [], []
    for number, source in enumerate(sources, start=1):
        text = parse_source(source).text
        label = f"{text} ({number} of {len(sources)})"
        try:
            report = _run(runner, source, outputs, None, profile_path, label)
        except KeyboardInterrupt:  # while it was opened
            say("Stopped; written results are kept.")
            break
        except (DffEdgeError, OSError) as error:
            runs.append({"source": text, "state": "failed", "failure": str(error)})
        else:
            runs.append(report.numbers)
            if str(json_path) != "-":
                click.echo(printable(text, keep=UNDECODED))
                _print(report.numbers)
                click.echo()
        if (failure := runs[-1]["failure"]) is not None:
            _LOG.error("%s: %s", text, failure)
            failures.append(text)
        if runs[-1]["state"] == "stopped":
            break
    write_json(json_path, {"sources": runs, "failed": len(failures)})
    if not failures:
        return None
    return f"{len(failures)} of {len(sources)} sources failed: {', '.join(failures)}"


def _run(
    runner: Runner,
    source: str,
    outputs: Sequence[SinkUri],
    page: _Page | None,
    profile_path: Path | None,
    label: str = "frames",
) -> RunReport:
    """Run on one source, and print what was written."""
    from dff_edge.files.atomic import AtomicFile
    from dff_edge.runtime.sinks.names import source_name
    from dff_edge.runtime.trace import Trace

    with ExitStack() as stack:
        profile: AtomicFile | None = None
        trace = None if profile_path is None else Trace()

        def begin(frames: Source, sinks: FanOut) -> None:
            nonlocal profile
            if profile_path is not None:
                path = Path(str(profile_path).replace(NAME, source_name(source)))
                profile = stack.enter_context(AtomicFile(path))
            for sink in sinks.reports:
                if sink.replaces is not None:
                    say(
                        f"{sink.replaces} is there from another run: this one writes to "
                        f"{sink.place}, which replaces it when the run ends"
                    )

        bar = stack.enter_context(progress(label, runner.options.frames))
        report = runner.run(
            source,
            outputs,
            watch=None if page is None else partial(_serve, page, runner),
            opened=begin,
            progress=bar,
            trace=trace,
        )
        if report.state == "stopped":
            say("Stopped; written results are kept.")
        for sink in report.sinks:
            if sink.place is not None and sink.written:
                say(_wrote(sink))
        if profile is not None and trace is not None:
            from dff_edge.report.timeline import write_timeline

            write_timeline(trace, profile)
            lost = f"; it holds the beginning, {trace.lost} spans are left out" * bool(trace.lost)
            say(f"wrote {profile.path}{lost}")
    return report


@contextmanager
def _serve(page: _Page, runner: Runner, frames: Source, sinks: FanOut) -> Iterator[Server]:
    from dff_edge.runtime.assembly import policy_of
    from dff_edge.serve import open_server

    manifest = runner.bundle.manifest
    with open_server(
        page.address,
        listener=page.listener,
        source=frames,
        sinks=sinks,
        classes=list(manifest.class_names),
        colours=[info.colour for info in manifest.classes],
        style=runner.style,
        policy=policy_of(runner.options.policy, runner.options.keys, runner.bundle),
        keys=runner.options.keys,
    ) as server:
        say(f"Watch at {server.url}")
        if server.is_open_to_others:
            _LOG.warning("anyone on the network can watch; there is no password.")
        yield server


def _wrote(sink: SinkReport) -> str:
    lost = f", {sink.lost} lost" if sink.lost else ""
    return f"wrote {sink.place} ({sink.written} frame{'s' * (sink.written != 1)}{lost})"


def _print(numbers: dict[str, Any]) -> None:
    share = "" if numbers["key_share"] is None else f" ({numbers['key_share']:.1%})"
    click.echo(
        f"{numbers['frames']} frames in {numbers['seconds']:.2f} s: {numbers['fps']:.1f} fps, "
        f"{numbers['key_frames']} key frames{share}; dropped {numbers['dropped']}, "
        f"failed {numbers['failed']}, reconnects {numbers['reconnects']}"
    )
    if age := numbers["age"]:
        click.echo(
            f"age of results, from capture: p50 {age['p50_ms']:.1f} ms, p99 {age['p99_ms']:.1f} ms"
        )
    if key_age := numbers["key_age"]:
        distance = numbers["key_distance"]
        click.echo(
            f"age of key frames, at capture: p50 {distance['p50']:.0f} frames "
            f"({key_age['p50_ms']:.0f} ms), p99 {distance['p99']:.0f} frames "
            f"({key_age['p99_ms']:.0f} ms)"
        )
    if expected := numbers["expected_disagreement"]:
        click.echo(
            f"expected disagreement with the full network: mean {expected['mean']:.1%}, "
            f"p99 {expected['p99']:.1%}"
        )
    if objects := numbers["objects"]:
        each = ", ".join(f"{count:.1f} {name}" for name, count in objects.items())
        click.echo(f"objects in a frame: {each}")
    for sink in numbers["sinks"]:
        if sink["lost"]:
            place = printable(sink["uri"], keep=UNDECODED)
            click.echo(f"{place}: {sink['written']} written, {sink['lost']} lost")
    rows = [
        [
            name,
            str(stage["count"]),
            f"{stage['p50_ms']:.2f}",
            f"{stage['p99_ms']:.2f}",
            f"{stage['share']:.1%}",
        ]
        for name, stage in numbers["stages"].items()
    ]
    table(["stage", "runs", "p50 ms", "p99 ms", "share"], rows)
