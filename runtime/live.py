"""A bundle run on sources, with its results in sinks: the work of ``dff-edge run``.

    with Runner(Bundle.open("street.bundle"), RunOptions(precision="int8")) as runner:
        report = runner.run("rtsp://10.0.0.7/stream", ["drive.mp4", "drive.jsonl"])
    print(report.numbers["fps"], report.failure)

To write the loop yourself, see `Pipeline`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from dff_edge.bundle.reader import Bundle
from dff_edge.errors import ConfigError, FrameError, SourceError
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
from dff_edge.runtime.sinks.names import SinkUri, parse_sink, source_name
from dff_edge.runtime.sinks.output_file import make_folder, remove_if_empty
from dff_edge.runtime.sinks.places import picture_suffix
from dff_edge.runtime.sources import LiveSource, Source, open_source
from dff_edge.runtime.tasks import task_of
from dff_edge.runtime.trace import Trace

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


DEFAULT_OPTIONS = RunOptions()


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
    """An observer of a run, such as a channel of the server of its page."""

    def begin(self, source: Source, sinks: FanOut) -> None:
        """Note that source and sinks are open."""
        ...

    def show(self, result: Result) -> None:
        """Accept a result; must not block."""
        ...

    def finish(self, state: EndState, reason: str | None = None) -> None:
        """Note that the run has ended."""
        ...


class SourceRun(Closing):
    """One source, its sinks and its observer, open for a run.

    Everything is opened and checked before anything is written: files of another run are not
    touched until the first result comes.

    Args:
        bundle: the bundle to run.
        options: options of running and drawing.
        source: its URI.
        outputs: URIs of sinks; ``{name}`` and folders are filled in for this source.
        watcher: observes the results.
        name: of the source in the names of its outputs; None for ``source_name``.

    Raises:
        ConfigError: a URI or an option that does not fit the source.
        SourceError: the source cannot be opened.
        SinkError: an output cannot be opened.

    Attributes:
        frames: the source.
        sinks: its sinks.
    """

    def __init__(
        self,
        bundle: Bundle,
        options: RunOptions,
        source: str,
        outputs: Sequence[str | SinkUri] = (),
        watcher: Watcher | None = None,
        name: str | None = None,
    ) -> None:
        manifest = bundle.manifest
        names = list(manifest.class_names)
        self._options = options
        self._watcher = watcher
        self._style = options.style.of_bundle(manifest)
        self._counted = names if task_of(manifest).gives_scores else None
        with ExitStack() as stack:
            self.frames = stack.enter_context(open_source(source))
            self._check_depth()
            self.sinks = stack.enter_context(FanOut(live=self.frames.live))
            for output in outputs:
                parsed = output if isinstance(output, SinkUri) else parse_sink(output)
                if parsed.kind == "folder" and parsed.path is not None:
                    if make_folder(parsed.path, parsed.text):
                        stack.callback(remove_if_empty, parsed.path)
                sink = open_sink(
                    self._sink_of(parsed, source, name or source_name(source)),
                    classes=names,
                    colours=[info.colour for info in manifest.classes],
                    fps=self.frames.fps,
                    source=source,
                    task=manifest.task,
                    style=self._style,
                )
                self.sinks.add(sink)
            if watcher is not None:
                watcher.begin(self.frames, self.sinks)
            self._stack = stack.pop_all()

    def through(
        self,
        pipeline: Pipeline,
        *,
        progress: Callable[[int, int | None], object],
        is_stopped: Callable[[], bool] = lambda: False,
    ) -> RunReport:
        """Run the source through a pipeline until it ends, and close the sinks.

        Args:
            pipeline: nobody else uses it meanwhile.
            progress: called with the number of results, and how many there will be if known.
            is_stopped: whether a person has stopped the run elsewhere.

        Raises:
            PipelineError: a stage failed.
        """
        frames, sinks, watcher = self.frames, self.sinks, self._watcher
        statistics = RunStatistics(self._counted, self._style.least_score)
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
                    progress(statistics.frames, self._options.frames or frames.length)
                if statistics.frames == self._options.frames:
                    break
                if sinks.is_dead and watcher is None:
                    state = "failed"  # no output is left
                    break
                if sinks.stop_requested or is_stopped():
                    state = "stopped"
                    break
        except KeyboardInterrupt:
            state = "stopped"
        except SourceError as error:  # reported after the results so far are written
            state, failure = "failed", str(error)
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
        """Close source and sinks. Safe to call twice."""
        self._stack.close()

    def _check_depth(self) -> None:
        if self.frames.live and self._options.depth not in (None, 1):
            raise ConfigError(
                f"{self.frames.uri} is live: its newest frame is computed alone, and a depth of "
                f"{self._options.depth} would only leave the flow network half of the threads. "
                "Leave it out, or set it to 1."
            )

    def _sink_of(self, uri: SinkUri, source: str, name: str) -> SinkUri:
        frames = self.frames
        suffix = picture_suffix(source) if frames.length == 1 else None
        uri = uri.of_source(name, picture_suffix=suffix)
        if uri.kind == "picture" and 1 not in (self._options.frames, frames.length):
            assert uri.path is not None
            many = "more than one frame" if frames.length is None else f"{frames.length} frames"
            raise ConfigError(
                f"'{uri.text}' is one picture, and {frames.uri} has {many}. Write a picture of "
                f"each, {uri.path.stem}-%06d{uri.path.suffix}, or stop after one frame."
            )
        return uri


class Runner(Closing):
    """Runs a bundle on one source after another; not thread-safe, and a context manager.

    Args:
        bundle: the bundle to run; its engines are opened with the first source.
        options: options of running and drawing.
    """

    def __init__(self, bundle: Bundle, options: RunOptions = DEFAULT_OPTIONS) -> None:
        self.bundle = bundle
        self.options = options
        self._pipeline: Pipeline | None = None

    def run(
        self,
        source: str,
        outputs: Sequence[str | SinkUri] = (),
        *,
        watcher: Watcher | None = None,
        opened: Callable[[SourceRun], object] = lambda run: None,
        progress: Callable[[int, int | None], object] = lambda done, total: None,
        trace: Trace | None = None,
    ) -> RunReport:
        """Run on a source until it ends.

        A run also ends when ``options.frames`` are reached, when a person stops it (Ctrl-C, or q in
        a window), or when no output is left.

        Args:
            source, outputs, watcher: as of ``SourceRun``.
            opened: called when all is open, before the first frame.
            progress: as of ``SourceRun.through``.
            trace: records the time of every stage.

        Raises:
            ConfigError, SourceError, SinkError: as ``SourceRun``.
            PipelineError: a stage failed.
        """
        with SourceRun(self.bundle, self.options, source, outputs, watcher) as run:
            pipeline = self._open_pipeline(live=run.frames.live, trace=trace)
            opened(run)
            try:
                return run.through(pipeline, progress=progress)
            except BaseException:
                self.close()  # a pipeline with a failed stage cannot be used again
                raise

    def close(self) -> None:
        """Close the engines. Safe to call twice."""
        if self._pipeline is not None:
            self._pipeline.close()
            self._pipeline = None

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
