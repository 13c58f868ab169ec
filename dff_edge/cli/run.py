"""dff-edge run: a bundle on live or recorded video."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Generator, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dff_edge.cli.options import (
    SWITCH,
    BundleName,
    Command,
    bundle_folder,
    check_folder,
    cuda_of,
    cuda_options,
    engine_option,
    interval_option,
    json_option,
    overlap_option,
    precision_option,
    progress,
    table,
    threads_option,
    write_json,
)

if TYPE_CHECKING:
    from dff_edge.runtime.frames import Result
    from dff_edge.runtime.pipeline import Pipeline
    from dff_edge.runtime.sinks import SinkReport
    from dff_edge.runtime.sources import Source
    from dff_edge.serve import Address

_LOOK_S = 0.1  # how often a live run without frames looks at its window and its outputs
_LOG = logging.getLogger("dff_edge.runtime")


def _check_address(ctx: click.Context, param: click.Parameter, text: str | None) -> Address | None:
    if text is None:
        return None
    from dff_edge.runtime.errors import ConfigError
    from dff_edge.serve import parse_address

    try:
        return parse_address(text)
    except ConfigError as error:
        raise click.BadParameter(str(error)) from error


def _check_profile(ctx: click.Context, param: click.Parameter, path: Path | None) -> Path | None:
    if path is not None and path.suffix not in (".json", ".png"):
        raise click.BadParameter(f"'{path}' ends in neither .json nor .png.")
    if path is not None and path.suffix == ".png":
        from dff_edge.report.plot import check_plotting

        check_plotting()
    return check_folder(ctx, param, path)


@click.command(cls=Command)
@click.argument("bundle", type=BundleName())
@click.argument("source")
@click.option(
    "-o",
    "--output",
    "outputs",
    multiple=True,
    metavar="SINK",
    help="out.mp4, out.jsonl, labels://FOLDER, display://; may be given several times.",
)
@click.option(
    "--serve",
    "address",
    metavar="[HOST:]PORT",
    callback=_check_address,
    help="Show picture and numbers in a browser, for this machine alone (8080), or for the network "
    "too (0.0.0.0:8080).",
)
@click.option(
    "--min-score",
    type=click.FloatRange(0, 1),
    help="Show and write only boxes that score as much. Of bundles that detect.  [default: 0.5]",
)
@precision_option
@interval_option
@click.option("--frames", type=click.IntRange(min=1), help="Stop after so many frames.")
@click.option(
    "--depth",
    type=click.IntRange(1, 16),
    help="Frames in flight: more give more frames a second, 1 the quickest answer to each. A live "
    "source takes 1 only.  [default: 1 for a live source, else 3]",
)
@click.option(
    "--profile",
    "profile_path",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    callback=_check_profile,
    help="Write when each stage ran on each stream: a .json for ui.perfetto.dev or "
    "chrome://tracing, a .png of the latest frames as a picture.",
)
@engine_option
@overlap_option
@cuda_options
@threads_option
@json_option
def command(
    bundle: str,
    source: str,
    outputs: tuple[str, ...],
    address: Address | None,
    min_score: float | None,
    precision: str,
    interval: int | None,
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
    """Run BUNDLE on SOURCE.

    BUNDLE is the folder that export wrote, or the name of a model of `dff-edge zoo`.

    SOURCE is a camera (0, v4l2:///dev/video0, csi://0), a stream (rtsp://..., http://...), a video
    file, a folder or glob of images, or synthetic://street?seed=5. ?rate=30 plays what is recorded
    as if it were live.
    """
    _check_outputs(source, outputs, json_path, profile_path)
    folder = bundle_folder(bundle)  # before a camera is opened: it may take a minute

    from dff_edge.report.running import RunStatistics
    from dff_edge.runtime.errors import SourceError
    from dff_edge.runtime.pipeline import Pipeline
    from dff_edge.runtime.sinks import SHOWN_SCORE, FanOut, open_sink
    from dff_edge.runtime.sources import open_source
    from dff_edge.runtime.trace import Trace
    from dff_edge.serve import open_server

    with ExitStack() as stack:
        # A service manager's stop ends a run as the keyboard does: with whole files.
        previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
        stack.callback(signal.signal, signal.SIGTERM, previous)
        opened = stack.enter_context(open_source(source))
        if opened.live and depth not in (None, 1):
            raise click.BadParameter(
                f"{opened.uri} is live: its newest frame is computed alone, and {depth} would only "
                "leave the flow network half of the threads. Leave it out, or say 1.",
                param_hint="--depth",
            )
        policy = None if interval is None else f"fixed:{interval}"
        trace = None if profile_path is None else Trace()
        pipeline = stack.enter_context(
            Pipeline.open(
                folder,
                precision=precision,  # type: ignore[arg-type]
                policy=policy,
                depth=depth or (1 if opened.live else 3),
                threads=threads,
                engine=engine,  # type: ignore[arg-type]
                overlap=SWITCH[overlap],
                cuda=cuda_of(driver, graphs, warp),
                trace=trace,
            )
        )
        assert pipeline.bundle is not None
        manifest = pipeline.bundle.manifest
        if manifest.task != "detection" and min_score is not None:
            raise click.BadParameter(
                f"{bundle} does {manifest.task}, and gives no boxes.", param_hint="--min-score"
            )
        min_score = SHOWN_SCORE if min_score is None else min_score
        names = [info.name for info in manifest.classes]
        colours = [info.colour for info in manifest.classes]
        sinks = stack.enter_context(FanOut(live=opened.live))
        for uri in outputs:
            sinks.add(
                open_sink(
                    uri,
                    classes=names,
                    colours=colours,
                    fps=opened.fps,
                    source=source,
                    task=manifest.task,
                    min_score=min_score,
                )
            )
        server = None
        if address is not None:
            server = stack.enter_context(
                open_server(
                    address,
                    source=opened,
                    sinks=sinks,
                    classes=names,
                    colours=colours,
                    min_score=min_score,
                )
            )
            click.echo(f"Watch at {server.url}", err=True)
            if server.is_open_to_others:
                click.echo(
                    "Warning: anyone on the network can watch; there is no password.", err=True
                )
        statistics = RunStatistics(names if manifest.task == "detection" else None, min_score)
        update = stack.enter_context(progress("frames", frames or opened.length))
        results = _results(pipeline, opened)
        is_stopped = False
        failure: SourceError | None = None
        try:
            for result in results:
                if result is None:
                    sinks.idle()
                else:
                    sinks.write(result)
                    if server is not None:
                        server.show(result)
                    statistics.add(result)
                    update(statistics.frames, None)
                if statistics.frames == frames or (sinks.is_dead and server is None):
                    break
                if is_stopped := sinks.stop_requested:
                    break
        except KeyboardInterrupt:
            is_stopped = True
            click.echo("Stopped; what was written stays.", err=True)
        except SourceError as error:
            failure = error  # told when the results that there are have been kept
        statistics.finish(opened.counts)
        if server is not None:
            if failure is not None:
                server.finish("failed", str(failure))
            else:
                server.finish("stopped" if is_stopped else "finished")
        results.close()
        sinks.close()
    if trace is not None and profile_path is not None:
        from dff_edge.report.timeline import write_timeline

        write_timeline(trace, profile_path)
        if trace.lost:
            click.echo(f"{profile_path} holds the beginning: {trace.lost} spans are left out.")
    numbers = statistics.as_dict(sinks.reports)
    if not write_json(json_path, numbers):
        _print(numbers)
    if failure is not None:
        raise failure
    if not statistics.frames:
        raise click.ClickException(f"{opened.uri} gave no frame that could be used.")
    _raise_failures(sinks.reports)


def _check_outputs(
    source: str, outputs: Iterable[str], json_path: Path | None, profile_path: Path | None
) -> None:
    """Refuse outputs that would overwrite the source or each other, before any is opened."""
    from dff_edge.runtime.sinks.base import check_not_source
    from dff_edge.runtime.uri import parse_sink

    named = [(uri, parse_sink(uri).path) for uri in outputs]
    named += [(f"--profile {profile_path}", profile_path)]
    named += [(f"--json {json_path}", None if str(json_path) == "-" else json_path)]
    seen: dict[object, str] = {}
    for name, path in named:
        if path is None:
            continue
        check_not_source(path, name, source)
        about = os.stat(path) if path.exists() else None
        place = path.resolve() if about is None else (about.st_dev, about.st_ino)
        if place in seen:
            raise click.UsageError(
                f"'{seen[place]}' and '{name}' are the same place, and one would overwrite the "
                "other; choose another name."
            )
        seen[place] = name


def _results(pipeline: Pipeline, source: Source) -> Generator[Result | None, None, None]:
    """Results of all frames; of a live source also None, when none came for ``_LOOK_S``."""
    from dff_edge.runtime.errors import FrameError
    from dff_edge.runtime.sources import LiveSource

    if not isinstance(source, LiveSource):
        yield from pipeline.run(source)
        return
    while True:
        is_over = source.state == "closed"  # looked at first: the last frame comes before the end
        frame = source.read(_LOOK_S)
        if frame is None:
            if is_over:
                return
            yield None
            continue
        try:
            pipeline.submit(frame)
        except FrameError as error:
            _LOG.warning("frame %s skipped: %s", frame.index, error)
            source.counts.fail(str(error))
            continue
        yield pipeline.poll(block=True)


def _raise_failures(reports: list[SinkReport]) -> None:
    failures = [report.failure for report in reports if report.failure is not None]
    if not failures:
        return
    others = len(reports) - len(failures)
    start = f"{len(failures)} of {len(reports)} outputs failed. " if others else ""
    raise click.ClickException(start + "\n".join(failures))


def _print(numbers: dict[str, Any]) -> None:
    click.echo(
        f"{numbers['frames']} frames in {numbers['seconds']:.2f} s: {numbers['fps']:.1f} fps, "
        f"{numbers['key_frames']} key frames; dropped {numbers['dropped']}, "
        f"failed {numbers['failed']}, reconnects {numbers['reconnects']}"
    )
    if age := numbers["age"]:
        click.echo(
            f"age of results, from capture: p50 {age['p50_ms']:.1f} ms, p99 {age['p99_ms']:.1f} ms"
        )
    if objects := numbers["objects"]:
        each = ", ".join(f"{count:.1f} {name}" for name, count in objects.items())
        click.echo(f"objects in a frame: {each}")
    for sink in numbers["sinks"]:
        if sink["lost"]:
            click.echo(f"{sink['uri']}: {sink['written']} written, {sink['lost']} lost")
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
