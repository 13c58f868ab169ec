"""Several sinks side by side: one that fails or stalls never stops the others.

Each sink works in a thread of its own, a few results behind. The effect of a slow sink depends on
the source: from a live one it loses results, which are counted, and the run continues at full
rate; from a file nothing is lost, the run waits, and a sink that makes no progress for
``STALL_S`` of waiting is given up.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import partial

from dff_edge.errors import SinkError
from dff_edge.frames import Result
from dff_edge.lifetime import Closing, Worker, bind, release
from dff_edge.runtime.sinks.base import Sink

STALL_S = 10.0
QUEUED = 8  # results queued at most: bridges short delays, 66 MB at 1920x1080

_LOOKS_PER_STALL = 20
_LOG = logging.getLogger("dff_edge.runtime")


@dataclass(frozen=True, slots=True)
class SinkReport:
    """Outcome of the results that were offered to a sink.

    Attributes:
        uri: as the user wrote it.
        written: number of results written.
        lost: number of results not written: the sink was too slow for a live source, failed or was
            given up.
        failure: why it failed or was given up, None while it works.
        place: the file or folder of the results, None where none is kept.
        replaces: the other run's file that is replaced when the run ends, else None.
    """

    uri: str
    written: int
    lost: int
    failure: str | None
    place: str | None = None
    replaces: str | None = None


class FanOut(Closing):
    """Passes results to several sinks, and closes them; for one thread.

    A window must be written to by the thread that opened it (``Sink.needs_caller``), so it is: a
    stall of it cannot be cut short. From a live source it gets at most half of that thread's time.

    All waiting is in native code (``queue.SimpleQueue``), so that Ctrl-C leaves nothing locked.

    Args:
        live: whether the source is live, so that it must not wait.
        stall_s: how long the caller waits for a sink without progress before it is given up.
    """

    def __init__(self, *, live: bool, stall_s: float = STALL_S) -> None:
        self._live = live
        self._stall_s = stall_s
        self._lanes: list[_Lane] = []
        self._is_closed = False
        bind(self, dropped=partial(_close, self._lanes))

    @property
    def stop_requested(self) -> bool:
        """Whether the user asked to stop."""
        return any(lane.sink.stop_requested for lane in self._lanes)

    @property
    def is_dead(self) -> bool:
        """Whether there were sinks and none is left."""
        return bool(self._lanes) and all(lane.failure is not None for lane in self._lanes)

    @property
    def reports(self) -> list[SinkReport]:
        """Return the outcome of the results so far, by sink; may be called in any thread."""
        return [lane.report() for lane in self._lanes]

    def add(self, sink: Sink) -> None:
        """Take ownership of an open sink: it is used and closed here alone."""
        release(sink)
        if sink.needs_caller:
            self._lanes.append(_CallerLane(sink, live=self._live))
        else:
            self._lanes.append(_ThreadLane(sink, live=self._live, stall_s=self._stall_s))

    def write(self, result: Result) -> None:
        """Offer a result to all sinks. A sink's failure is logged and reported, not raised.

        Raises:
            SinkError: when closed.
        """
        if self._is_closed:
            raise SinkError("the sinks were closed; open new ones.")
        for lane in self._lanes:
            lane.offer(result)

    def idle(self) -> None:
        """Use the time in which a live source has no frame: a window reads its keys.

        Does not wait. To be called several times a second.
        """
        for lane in self._lanes:
            lane.idle()

    def close(self) -> None:
        """Make all sinks finish their queues; a stalled one is given up. Safe to call twice."""
        self._is_closed = True
        _close(self._lanes)


def _close(lanes: list[_Lane]) -> None:
    for lane in lanes:
        lane.end()
    for lane in lanes:
        lane.join()


class _Lane(ABC):
    """One sink and the outcome of its results."""

    def __init__(self, sink: Sink, *, live: bool) -> None:
        self.sink = sink
        self.failure: Exception | None = None
        self._live = live
        self._offered = 0

    @abstractmethod
    def offer(self, result: Result) -> None:
        """Pass a result to the sink, unless it failed or is too slow."""

    def idle(self) -> None:  # noqa: B027 - a sink in a thread waits there
        """Let the sink do its own work while no result comes."""

    @abstractmethod
    def end(self) -> None:
        """Start to close the sink."""

    def join(self) -> None:  # noqa: B027 - ``end`` may have closed it at once
        """Wait until the sink is closed or given up."""

    def report(self) -> SinkReport:
        failure = None if self.failure is None else str(self.failure)
        place, replaces = (
            None if path is None else str(path) for path in (self.sink.place, self.sink.replaces)
        )
        return SinkReport(self.sink.uri, self.sink.written, self._lost(), failure, place, replaces)

    def _lost(self) -> int:
        return self._offered - self.sink.written

    def _fail(self, error: Exception) -> None:
        if self.failure is None:
            self.failure = error
            _LOG.error("%s", error, exc_info=None if isinstance(error, SinkError) else error)


class _CallerLane(_Lane):
    """Writes in the caller's thread."""

    def __init__(self, sink: Sink, *, live: bool) -> None:
        super().__init__(sink, live=live)
        self._rests_until_s = 0.0

    def offer(self, result: Result) -> None:
        self._offered += 1
        start_s = time.monotonic()
        if self.failure is not None or (self._live and start_s < self._rests_until_s):
            return
        try:
            self.sink.write(result)
        except Exception as error:
            self._fail(error)
            self.end()
        end_s = time.monotonic()
        self._rests_until_s = end_s + (end_s - start_s)

    def idle(self) -> None:
        if self.failure is not None:
            return
        try:
            self.sink.idle()
        except Exception as error:
            self._fail(error)
            self.end()

    def end(self) -> None:
        try:
            self.sink.close()
        except Exception as error:
            self._fail(error)


class _ThreadLane(_Lane):
    """Writes in a thread of its own, behind a queue of ``QUEUED`` results.

    Slots limit the length of the queue: adding a result takes a slot, and the thread returns it
    when the result is written.
    """

    def __init__(self, sink: Sink, *, live: bool, stall_s: float) -> None:
        super().__init__(sink, live=live)
        self._stall_s = stall_s
        self._dropped = 0
        self._steps = 0  # grows whenever the sink makes progress
        self._has_ended = False
        self._results: queue.SimpleQueue[Result | None] = queue.SimpleQueue()
        self._slots: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._ended: queue.SimpleQueue[None] = queue.SimpleQueue()
        for _ in range(QUEUED):
            self._slots.put(None)
        self._thread = Worker(self._run, f"dff-sink {sink.uri}")
        self._thread.start()

    def offer(self, result: Result) -> None:
        self._offered += 1
        if self.failure is not None:
            return
        if self._take_oldest_slot() if self._live else self._wait_for(self._slots):
            self._results.put(result)

    def end(self) -> None:
        self._results.put(None)

    def join(self) -> None:
        if not self._has_ended and self._wait_for(self._ended):
            self._has_ended = True
            self._thread.join()

    def _lost(self) -> int:
        is_over = self._has_ended or self.failure is not None
        return super()._lost() if is_over else self._dropped  # queued results are not lost yet

    def _take_oldest_slot(self) -> bool:
        """Take a free slot, or that of the oldest result, without waiting."""
        # Terminates: the thread holds one slot, the others are free or have a result queued.
        while self.failure is None:
            with contextlib.suppress(queue.Empty):
                self._slots.get_nowait()
                return True
            with contextlib.suppress(queue.Empty):
                self._results.get_nowait()
                self._count_drop()
                return True
        return False

    def _count_drop(self) -> None:
        self._dropped += 1
        if self._dropped == 1:
            _LOG.warning(
                "%s is slower than the source: the results that it cannot write are lost, and "
                "counted",
                self.sink.uri,
            )

    def _wait_for(self, signal: queue.SimpleQueue[None]) -> bool:
        """Wait for a signal of the thread, or give up the sink.

        Only time spent waiting counts, in short intervals: a process that was stopped and resumes
        (Ctrl-Z) has not waited.
        """
        looks, steps = 0, self._steps
        while looks < _LOOKS_PER_STALL:
            with contextlib.suppress(queue.Empty):
                signal.get(timeout=self._stall_s / _LOOKS_PER_STALL)
                return True
            looks, steps = (looks + 1 if steps == self._steps else 0), self._steps
        self._give_up()
        return False

    def _give_up(self) -> None:
        self._fail(
            SinkError(
                f"'{self.sink.uri}' made no progress for {self._stall_s:g} s and was given up. "
                "The results written before are kept. Check its disk, or the program that reads it."
            )
        )
        self._has_ended = True  # for waiting callers; the thread ends when the sink returns
        self._forget_queued()
        self._results.put(None)

    def _forget_queued(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                self._results.get_nowait()

    def _run(self) -> None:
        try:
            while self.failure is None and (result := self._results.get()) is not None:
                self.sink.write(result)
                self._steps += 1
                self._slots.put(None)
        except Exception as error:  # of any kind: the other sinks continue
            self._fail(error)
            self._forget_queued()
            self._slots.put(None)  # the caller may be waiting for one
        self._steps += 1
        try:
            self.sink.close()
        except Exception as error:
            self._fail(error)
        self._ended.put(None)
