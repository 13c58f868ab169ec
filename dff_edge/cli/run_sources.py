"""The work of ``dff-edge run``: sources one after another or at once, and what is printed."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dff_edge.cli.command import command_line, table, write_json
from dff_edge.cli.console import progress, say
from dff_edge.cli.run_checks import NAME, RunPlan
from dff_edge.printable import UNDECODED, printable

if TYPE_CHECKING:
    from dff_edge.bundle.reader import Bundle
    from dff_edge.files.atomic import AtomicFile
    from dff_edge.runtime.live import Runner, RunOptions, RunReport, SourceRun
    from dff_edge.runtime.sinks import SinkReport
    from dff_edge.runtime.sinks.names import SinkUri
    from dff_edge.runtime.trace import Trace
    from dff_edge.serve import Address
    from dff_edge.serve.server import Server

_LOG = logging.getLogger("dff_edge.runtime")


def run_each(
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
            report = run_one(runner, source, outputs, None, profile_path, label)
        except KeyboardInterrupt:  # while it was opened
            say("Stopped; written results are kept.")
            break
        except (DffEdgeError, OSError) as error:
            runs.append({"source": text, "state": "failed", "failure": str(error)})
        else:
            runs.append(report.numbers)
            if str(json_path) != "-":
                click.echo(printable(text, keep=UNDECODED))
                print_numbers(report.numbers)
                click.echo()
        if (failure := runs[-1]["failure"]) is not None:
            _LOG.error("%s: %s", text, failure)
            failures.append(text)
        if runs[-1]["state"] == "stopped":
            break
    write_json(json_path, {"sources": runs, "failed": len(failures)})
    return _told(failures, len(sources))


def run_at_once(
    bundle: Bundle,
    plan: RunPlan,
    outputs: Sequence[SinkUri],
    options: RunOptions,
    server: Server | None,
    profile_path: Path | None,
    json_path: Path | None,
) -> str | None:
    """Run on all sources at once; return what failed."""
    from dff_edge.runtime.together import run_together
    from dff_edge.runtime.trace import Trace

    traces = None if profile_path is None else [Trace() for _ in plan.sources]
    with ExitStack() as stack:
        profiles = [_Profile.of(profile_path, name) for name in plan.names]

        def begin(number: int, run: SourceRun) -> None:
            profiles[number].open(stack)
            _note_replaced(run)

        bar = stack.enter_context(progress(f"frames of {len(plan.sources)} sources"))
        with command_line():
            reports = run_together(
                bundle,
                plan.sources,
                outputs,
                options,
                watchers=None if server is None else server.channels,
                opened=begin,
                progress=bar,
                traces=traces,
            )
        if any(report.state == "stopped" for report in reports):
            say("Stopped; written results are kept.")
        for number, report in enumerate(reports):
            _note_written(report)
            if traces is not None:
                profiles[number].write(traces[number])
    failed = [report.source for report in reports if report.failure is not None]
    if not write_json(
        json_path, {"sources": [report.numbers for report in reports], "failed": len(failed)}
    ):
        for report in reports:
            click.echo(printable(report.source, keep=UNDECODED))
            if "frames" in report.numbers:  # else it never began
                print_numbers(report.numbers)
            else:
                click.echo(report.failure)
            click.echo()
    return _told(failed, len(reports))


def _told(failed: Sequence[str], count: int) -> str | None:
    if not failed:
        return None
    return f"{len(failed)} of {count} sources failed: {', '.join(failed)}"


def run_one(
    runner: Runner,
    source: str,
    outputs: Sequence[SinkUri],
    server: Server | None,
    profile_path: Path | None,
    label: str = "frames",
) -> RunReport:
    """Run on one source, and print what was written."""
    from dff_edge.runtime.sinks.names import source_name
    from dff_edge.runtime.trace import Trace

    with ExitStack() as stack:
        trace = None if profile_path is None else Trace()
        profile = _Profile.of(profile_path, source_name(source))

        def begin(run: SourceRun) -> None:
            profile.open(stack)
            _note_replaced(run)

        bar = stack.enter_context(progress(label, runner.options.frames))
        report = runner.run(
            source,
            outputs,
            watcher=None if server is None else server.channels[0],
            opened=begin,
            progress=bar,
            trace=trace,
        )
        if report.state == "stopped":
            say("Stopped; written results are kept.")
        _note_written(report)
        if trace is not None:
            profile.write(trace)
    return report


class _Profile:
    """The file of a source's timeline, or none: opened with the source, written at its end."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._file: AtomicFile | None = None

    @classmethod
    def of(cls, path: Path | None, name: str) -> _Profile:
        """Return that of a source by its name."""
        return cls(None if path is None else Path(str(path).replace(NAME, name)))

    def open(self, stack: ExitStack) -> None:
        """Open the file, until the end of a stack."""
        from dff_edge.files.atomic import AtomicFile

        if self._path is not None:
            self._file = stack.enter_context(AtomicFile(self._path))

    def write(self, trace: Trace) -> None:
        """Write the timeline, if the source was begun."""
        from dff_edge.report.timeline import write_timeline

        if self._file is not None:
            write_timeline(trace, self._file)
            lost = f"; it holds the beginning, {trace.lost} spans are left out" * bool(trace.lost)
            say(f"wrote {self._file.path}{lost}")


def _note_replaced(run: SourceRun) -> None:
    for sink in run.sinks.reports:
        if sink.replaces is not None:
            say(
                f"{sink.replaces} is there from another run: this one writes to {sink.place}, "
                "which replaces it when the run ends"
            )


def _note_written(report: RunReport) -> None:
    for sink in report.sinks:
        if sink.place is not None and sink.written:
            say(_wrote(sink))


@contextmanager
def serve(
    address: Address,
    listener: socket.socket,
    bundle: Bundle,
    sources: Sequence[str],
    options: RunOptions,
) -> Iterator[Server]:
    """Serve the page of a run while the block runs.

    Args:
        address, listener: of the page, and its open port.
        bundle, options: of the run.
        sources: their URIs.
    """
    from dff_edge.runtime.assembly import policy_of
    from dff_edge.serve import open_server
    from dff_edge.uri import parse_source

    manifest = bundle.manifest
    with open_server(
        address,
        listener=listener,
        sources=[parse_source(source).text for source in sources],
        classes=list(manifest.class_names),
        colours=[info.colour for info in manifest.classes],
        style=options.style.of_bundle(manifest),
        policy=policy_of(options.policy, options.keys, bundle),
        keys=options.keys,
    ) as server:
        say(f"Watch at {server.url}")
        if server.is_open_to_others:
            _LOG.warning("anyone on the network can watch; there is no password.")
        yield server


def _wrote(sink: SinkReport) -> str:
    lost = f", {sink.lost} lost" if sink.lost else ""
    return f"wrote {sink.place} ({sink.written} frame{'s' * (sink.written != 1)}{lost})"


def print_numbers(numbers: dict[str, Any]) -> None:
    """Print the numbers of a source: the contents of ``RunStatistics.as_dict``."""
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
