"""A bundle run on several sources at once: cameras, which do not end, over one set of engines.

    reports = run_together(Bundle.open("street.bundle"), ["0", "rtsp://10.0.0.7/stream"])

Each source has a thread and a pipeline of its own (`Pipelines`). One that cannot be opened, fails
or ends, and an output that fails or is slow, does not touch the others.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace

from dff_edge.bundle.reader import Bundle
from dff_edge.errors import ConfigError, DffEdgeError
from dff_edge.lifetime import Worker
from dff_edge.runtime.live import DEFAULT_OPTIONS, RunOptions, RunReport, SourceRun, Watcher
from dff_edge.runtime.pipeline import Pipeline
from dff_edge.runtime.pipelines import Pipelines
from dff_edge.runtime.sinks.names import SinkUri, parse_sink, source_names
from dff_edge.runtime.sinks.output_file import make_folder, remove_if_empty
from dff_edge.runtime.trace import Trace
from dff_edge.uri import parse_source

_LOOK_S = 0.1  # interval at which progress is told
_LOG = logging.getLogger("dff_edge.runtime")


def run_together(
    bundle: Bundle,
    sources: Sequence[str],
    outputs: Sequence[str | SinkUri] = (),
    options: RunOptions = DEFAULT_OPTIONS,
    *,
    watchers: Sequence[Watcher] | None = None,
    opened: Callable[[int, SourceRun], object] = lambda number, run: None,
    progress: Callable[[int, int | None], object] = lambda done, total: None,
    traces: Sequence[Trace] | None = None,
) -> list[RunReport]:
    """Run on several sources at once, until each has ended or a person stops them (Ctrl-C).

    Ctrl-C waits for the frames that are computed, and for a source that is being connected to. A
    second one does not.

    Args:
        bundle: the bundle to run.
        sources: their URIs.
        outputs: URIs of sinks of each source: ``{name}`` and folders are filled in, by
            ``source_names``.
        options: ``frames`` and ``depth`` are of each source; without a depth it is 1.
        watchers: one for each source, as of ``SourceRun``.
        opened: called with a source's number, in its thread, before its first frame.
        progress: called with the number of results of all, and None.
        traces: one for each source, which records the time of every stage.

    Returns:
        What became of each source, in their order; of one that could not be opened, too.

    Raises:
        ConfigError: a window among the outputs, and as of ``Pipelines.open``.
        EngineError: as of ``Pipelines.open``.
    """
    parsed = [uri if isinstance(uri, SinkUri) else parse_sink(uri) for uri in outputs]
    if any(uri.kind == "display" for uri in parsed):
        raise ConfigError("display:// is a window of one source; watch several in a browser.")
    depth = options.depth or 1
    options = replace(options, depth=depth)
    with ExitStack() as stack:
        for uri in parsed:  # here: a source that fails must not remove what another one uses
            if uri.kind == "folder" and uri.path is not None and make_folder(uri.path, uri.text):
                stack.callback(remove_if_empty, uri.path)
        pipelines = stack.enter_context(
            Pipelines.open(
                bundle,
                len(sources),
                precision=options.precision,
                policy=options.policy,
                depth=depth,
                threads=options.threads,
                engine=options.engine,
                overlap=options.overlap,
                keys=options.keys,
                traces=traces,
                names=[parse_source(source).text for source in sources],
            )
        )
        observers = [None] * len(sources) if watchers is None else watchers
        is_stopped = threading.Event()
        streams = [
            _Stream(number, bundle, options, source, name, parsed, pipeline, watcher, is_stopped)
            for number, (source, name, pipeline, watcher) in enumerate(
                zip(sources, source_names(sources), pipelines, observers, strict=True)
            )
        ]
        threads = [Worker(each.run, f"dff-run {each.text}", (opened,)) for each in streams]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                while thread.is_alive():
                    thread.join(_LOOK_S)
                    progress(sum(stream.results for stream in streams), None)
        except KeyboardInterrupt:
            pass  # each reports that it was stopped
        finally:
            is_stopped.set()
            for thread in threads:
                thread.join()
    return [stream.report for stream in streams]


class _Stream:
    """One source among several, run in a thread of its own.

    Attributes:
        text: the source, without credentials.
        results: number of results so far.
        report: what became of it; valid when the thread has ended.
    """

    def __init__(
        self,
        number: int,
        bundle: Bundle,
        options: RunOptions,
        source: str,
        name: str,
        outputs: Sequence[SinkUri],
        pipeline: Pipeline,
        watcher: Watcher | None,
        is_stopped: threading.Event,
    ) -> None:
        self.text = parse_source(source).text
        self.results = 0
        self.report = _failed(self.text, "it was not begun.")
        self._number = number
        self._how_to_open = (bundle, options, source, outputs, watcher, name)
        self._pipeline = pipeline
        self._watcher = watcher
        self._is_stopped = is_stopped

    def run(self, opened: Callable[[int, SourceRun], object]) -> None:
        """Run the source until it ends; failures are logged and reported."""
        try:
            with SourceRun(*self._how_to_open) as run:
                opened(self._number, run)
                self.report = run.through(
                    self._pipeline, progress=self._count, is_stopped=self._is_stopped.is_set
                )
        except Exception as error:  # of any kind: the others go on
            is_told = isinstance(error, (DffEdgeError, OSError))
            failure = str(error) if is_told else f"{type(error).__name__}: {error}"
            self.report = _failed(self.text, failure)
            if self._watcher is not None:
                self._watcher.finish("failed", failure)
            _LOG.error("%s: %s", self.text, failure, exc_info=None if is_told else error)
        else:
            if self.report.failure is not None:
                _LOG.error("%s: %s", self.text, self.report.failure)
        self._pipeline.close()  # its threads and buffers, and its turns: the others may go on long

    def _count(self, done: int, total: int | None) -> None:
        self.results = done


def _failed(source: str, failure: str) -> RunReport:
    numbers = {"source": source, "state": "failed", "failure": failure}
    return RunReport(source, "failed", failure, numbers, ())
