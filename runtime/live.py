"""A bundle run on sources, with its results in sinks: the work of ``dff-edge run``.

    with Runner(Bundle.open("street.bundle"), RunOptions(precision="int8")) as runner:
        report = runner.run("rtsp://10.0.0.7/stream", ["drive.mp4", "drive.jsonl"])
    print(report.numbers["fps"], report.failure)

To write the loop yourself, see `Pipeline`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Generator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from dff_edge.bundle.reader import Bundle
from dff_edge.errors import ConfigError, FrameError, SinkError, SourceError
from dff_edge.files.atomic import check_folder, check_writable
from dff_edge.frames import Result
from dff_edge.lifetime import Closing
from dff_edge.names import Precision
from dff_edge.runtime.drawing.style import DEFAULT_STYLE, Style
from dff_edge.runtime.engines.backends import DEFAULT_BACKEND
from dff_edge.runtime.engines.options import CudaOptions
from dff_edge.runtime.keys import IN_ORDER, KeyMode
from dff_edge.runtime.pipeline import Pipeline
from dff_edge.runtime.run_statistics import RunStatistics
from dff_edge.runtime.sinks import open_sink
from dff_edge.runtime.sinks.fan_out import FanOut, SinkReport
from dff_edge.runtime.sinks.names import NAME, SinkUri, parse_sink, source_name
from dff_edge.runtime.sinks.output_file import files_of, make_folder, remove_if_empty
from dff_edge.runtime.sources import LiveSource, Source, open_source
from dff_edge.runtime.tasks import task_of
from dff_edge.runtime.trace import Trace
from dff_edge.uri import parse_source

EndState = Literal["finished", "stopped", "failed"]

_LOOK_S = 0.1  # interval at which a live run without frames checks its window and its outputs
_LOG = logging.getLogger("dff_edge.runtime")


@dataclass(frozen=True, slots=True)
class RunOptions:
    """Options of running a bundle and of drawing its results.

    Attributes:
        precision, policy, threads, engine, overlap, keys, cuda: as of ``Pipeline.open``.
        depth: frames in flight; None for 1 of a live source and 3 of a recording.
        frames: results after which a run ends; None for all.
        style: which parts of results are drawn, and how; its threshold is the bundle's unless set.
    """

    precision: Precision = "fp32"
    policy: str | None = None
    depth: int | None = None
    threads: int | None = None
    engine: str = DEFAULT_BACKEND
    overlap: bool | None = None
    keys: KeyMode = IN_ORDER
    cuda: CudaOptions | None = None
    frames: int | None = None
    style: Style = DEFAULT_STYLE


_DEFAULT_OPTIONS = RunOptions()


@dataclass(frozen=True, slots=True)
class RunReport:
    """Outcome of a run.

    Attributes:
        source: as the user wrote it, without credentials.
        state: "finished": the source ended, or ``frames`` was reached; "stopped" by a person;
            "failed": the source failed or had no usable frame, or no output was left.
        failure: the failure of the source or of sinks; None where there was none.
        numbers: ready for JSON; see ``RunStatistics.as_dict``.
        sinks: outcome of each sink.
    """

    source: str
    state: EndState
    failure: str | None
    numbers: dict[str, Any]
    sinks: Sequence[SinkReport]


class Watcher(Protocol):
    """An observer of the results of a run, such as the server of its page."""

    def show(self, result: Result) -> None:
        """Accept a result; must not block."""
        ...

    def finish(self, state: EndState, reason: str | None = None) -> None:
        """Note that the run has ended."""
        ...


class Runner(Closing):
    """Runs a bundle on one source after another; not thread-safe, and a context manager.

    Args:
        bundle: the bundle to run; its engines are opened with the first source.
        options: options of running and drawing.

    Attributes:
        style: of drawn results, with the bundle's threshold where the options name none.
    """

    def __init__(self, bundle: Bundle, options: RunOptions = _DEFAULT_OPTIONS) -> None:
        self.bundle = bundle
        self.options = options
        self.style = options.style.of_bundle(bundle.manifest)
        self._pipeline: Pipeline | None = None

    def run(
        self,
        source: str,
        outputs: Sequence[str | SinkUri] = (),
        *,
        watch: Callable[[Source, FanOut], AbstractContextManager[Watcher]] | None = None,
        opened: Callable[[Source, FanOut], object] = lambda source, sinks: None,
        progress: Callable[[int, int | None], object] = lambda done, total: None,
        trace: Trace | None = None,
    ) -> RunReport:
        """Run on a source until it ends.

        A run also ends when ``options.frames`` are reached, when a person stops it (Ctrl-C, or q in
        a window), or when no output is left.

        Everything is opened and checked before anything is written: files of another run are not
        touched until the first result comes.

        Args:
            source: its URI.
            outputs: URIs of sinks; ``{name}`` and folders are filled in for this source.
            watch: opens an observer of the results.
            opened: called when all is open, before the first frame.
            progress: called with the number of results, and how many there will be if that is
                known.
            trace: records the time of every stage.

        Raises:
            ConfigError: a URI or an option that does not fit the source.
            SourceError: the source cannot be opened.
            SinkError: an output cannot be opened.
            PipelineError: a stage failed.
        """
        manifest = self.bundle.manifest
        names = list(manifest.class_names)
        colours = [info.colour for info in manifest.classes]
        style = self.style
        with ExitStack() as stack:
            frames = stack.enter_context(open_source(source))
            self._check_depth(frames)
            sinks = stack.enter_context(FanOut(live=frames.live))
            for output in outputs:
                parsed = output if isinstance(output, SinkUri) else parse_sink(output)
                if parsed.kind == "folder" and parsed.path is not None:
                    if make_folder(parsed.path, parsed.text):
                        stack.callback(remove_if_empty, parsed.path)
                sink = open_sink(
                    self._sink_of(source, frames, parsed),
                    classes=names,
                    colours=colours,
                    fps=frames.fps,
                    source=source,
                    task=manifest.task,
                    style=style,
                )
                sinks.add(sink)
            watcher = None if watch is None else stack.enter_context(watch(frames, sinks))
            pipeline = self._open_pipeline(live=frames.live, trace=trace)
            counted = names if task_of(manifest).gives_scores else None
            statistics = RunStatistics(counted, style.least_score)
            opened(frames, sinks)
            results = _results(pipeline, frames)
            state: EndState = "finished"
            failure: str | None = None
            try:
                for result in results:
                    if result is None:
                        sinks.idle()
                    else:
                        sinks.write(result)
                        if watcher is not None:
                            watcher.show(result)
                        statistics.add(result)
                        progress(statistics.frames, self.options.frames or frames.length)
                    if statistics.frames == self.options.frames:
                        break
                    if sinks.is_dead and watcher is None:
                        state = "failed"  # no output is left
                        break
                    if sinks.stop_requested:
                        state = "stopped"
                        break
            except KeyboardInterrupt:
                state = "stopped"
            except SourceError as error:  # reported after the results so far are written
                state, failure = "failed", str(error)
            except BaseException:
                self.close()  # a pipeline with a failed stage cannot be used again
                raise
            statistics.finish(frames.counts)
            if state == "finished" and not statistics.frames:
                state, failure = "failed", f"{frames.uri} had no usable frame."
            if watcher is not None:
                watcher.finish(state, failure)
            results.close()
            sinks.close()
            reports = sinks.reports
        failure = failure or _failure_of(reports)
        numbers = {"source": frames.uri, "state": state, "failure": failure}
        numbers |= statistics.as_dict(reports)
        return RunReport(frames.uri, state, failure, numbers, reports)

    def close(self) -> None:
        """Close the engines. Safe to call twice."""
        if self._pipeline is not None:
            self._pipeline.close()
            self._pipeline = None

    def _check_depth(self, frames: Source) -> None:
        if frames.live and self.options.depth not in (None, 1):
            raise ConfigError(
                f"{frames.uri} is live: its newest frame is computed alone, and a depth of "
                f"{self.options.depth} would only leave the flow network half of the threads. "
                "Leave it out, or set it to 1."
            )

    def _sink_of(self, source: str, frames: Source, uri: SinkUri) -> SinkUri:
        suffix = _picture_suffix(source) if frames.length == 1 else None
        uri = uri.of_source(source_name(source), picture_suffix=suffix)
        if uri.kind == "picture" and 1 not in (self.options.frames, frames.length):
            assert uri.path is not None
            many = "more than one frame" if frames.length is None else f"{frames.length} frames"
            raise ConfigError(
                f"'{uri.text}' is one picture, and {frames.uri} has {many}. Write a picture of "
                f"each, {uri.path.stem}-%06d{uri.path.suffix}, or stop after one frame."
            )
        return uri

    def _open_pipeline(self, *, live: bool, trace: Trace | None) -> Pipeline:
        """Return the pipeline of the source before, or open the engines."""
        options = self.options
        depth = options.depth or (1 if live else 3)
        if self._pipeline is not None and (trace is not None or self._pipeline.depth != depth):
            self.close()
        if self._pipeline is None:
            self._pipeline = Pipeline.open(
                self.bundle,
                precision=options.precision,
                policy=options.policy,
                depth=depth,
                threads=options.threads,
                engine=options.engine,
                overlap=options.overlap,
                keys=options.keys,
                cuda=options.cuda,
                trace=trace,
            )
        return self._pipeline


def check_outputs(
    sources: Sequence[str],
    outputs: Sequence[SinkUri],
    others: Sequence[tuple[str, Path]] = (),
) -> None:
    """Raise when an output cannot be written, or would overwrite a source or another output.

    To be called before any is opened.

    Args:
        sources: URIs.
        outputs: sinks of each.
        others: further files, by the user's names for them; ``{name}`` is that of the source.

    Raises:
        ConfigError: two outputs are the same place, one is a source, or the folder of one is
            missing.
    """
    made = {_place(uri.path) for uri in outputs if uri.kind == "folder" and uri.path is not None}
    read = {_place(path): path for source in sources for path in files_of(source) if path.exists()}
    seen: dict[object, str] = {}
    sinks: list[SinkUri] = []
    for source in sources:
        name = source_name(source)
        own = [uri.of_source(name, picture_suffix=_picture_suffix(source)) for uri in outputs]
        named = [(uri.text, path) for uri in own for path in _places_of(uri)]
        named += [
            (text.replace(NAME, name), Path(str(path).replace(NAME, name)))
            for text, path in others
            if source == sources[0] or NAME in str(path)
        ]
        for text, path in named:
            place = _place(path)
            if place in read:
                raise ConfigError(
                    f"'{text}' is the source itself and would be overwritten; choose another name."
                )
            if place in seen:
                raise ConfigError(
                    f"'{seen[place]}' and '{text}' are the same place, and one would overwrite "
                    "the other; choose another name."
                )
            seen[place] = text
        sinks += own
    for uri in sinks:
        _check_folder(uri, made)


def _places_of(uri: SinkUri) -> list[Path]:
    """Return the files that a sink writes, and the folder that it needs for itself."""
    if uri.path is None:
        return []
    return [uri.path, uri.path.parent] if uri.kind == "pictures" else [uri.path]


def _check_folder(uri: SinkUri, made: Collection[object]) -> None:
    if uri.path is None:
        return
    folder = uri.path if uri.kind == "labels" else uri.path.parent
    try:
        if uri.kind in ("labels", "pictures"):
            if not folder.exists() and _place(folder.parent) not in made:
                check_folder(folder.parent, uri.text)
        elif _place(folder) not in made:
            check_writable(uri.path, uri.text)
    except SinkError as error:
        raise ConfigError(str(error)) from error


def _place(path: Path) -> object:
    """Return a value that is equal for two names of one file or folder."""
    if not path.exists():
        return path.resolve()
    about = path.stat()
    return about.st_dev, about.st_ino


def _picture_suffix(source: str) -> str | None:
    """Return the suffix of a source that is one image file, else None."""
    parsed = parse_source(source)
    is_file = parsed.kind == "images" and os.path.isfile(parsed.target)
    return Path(parsed.target).suffix if is_file else None


def _results(pipeline: Pipeline, source: Source) -> Generator[Result | None, None, None]:
    """Yield the results of all frames; for a live source also None, after ``_LOOK_S`` without."""
    if not isinstance(source, LiveSource):
        yield from pipeline.run(source)
        return
    pipeline.reset()
    while True:
        is_over = source.state == "closed"  # checked first: the last frame comes before the end
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


def _failure_of(reports: Sequence[SinkReport]) -> str | None:
    failures = [report.failure for report in reports if report.failure is not None]
    if not failures:
        return None
    others = len(reports) - len(failures)
    start = f"{len(failures)} of {len(reports)} outputs failed. " if others else ""
    return start + "\n".join(failures)
