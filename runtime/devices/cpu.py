"""The CPU as a device: a stream is one worker thread, an event marks completed work."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from numpy.typing import NDArray

from dff_edge.bundle.levels import MapLevels
from dff_edge.bundle.tensors import TensorSpec
from dff_edge.errors import PipelineError, words_of
from dff_edge.frames import Image
from dff_edge.lifetime import Worker, bind
from dff_edge.runtime.devices.base import Buffer, Event, Stream
from dff_edge.runtime.kernels.resize import check_image
from dff_edge.runtime.kernels.warp import warp_features

# Less than about a millisecond of work is not worth a second thread: on a busy machine a thread
# starts up to a scheduler tick (4 ms) late, and the others wait for it.
_WORK_PER_THREAD = 1 << 19


def kernel_threads(work: int, threads: int) -> int:
    """Return the number of threads that share a native kernel's work.

    Args:
        work: output values: elements of a warp, pixels of a label map; samples of pooled maps.
        threads: the maximum.
    """
    return max(1, min(threads, work // _WORK_PER_THREAD))


@dataclass(frozen=True, slots=True)
class CpuBuffer:
    """A numpy array under its tensor's name."""

    spec: TensorSpec
    array: NDArray[Any]


class _Record:
    """One record of an event: a lock that is free when the work before it is done.

    The lock is acquired by native code alone. A ``threading.Condition`` is Python code: Ctrl-C
    between its acquisition and its ``with`` block leaves it acquired, and all streams waiting.
    """

    def __init__(self) -> None:
        self.time_s: float | None = None  # None until done
        self._undone = threading.Lock()
        self._undone.acquire()

    def finish(self) -> None:
        self.time_s = time.perf_counter()
        self._undone.release()

    def wait(self) -> None:
        with self._undone:
            pass


class CpuEvent:
    """An event that refers to its latest record, so that one event serves every frame."""

    def __init__(self) -> None:
        self._latest: _Record | None = None

    @property
    def is_done(self) -> bool:
        return self._latest is None or self._latest.time_s is not None

    def synchronize(self) -> None:
        if self._latest is not None:
            self._latest.wait()

    def elapsed_ms_since(self, start: Event) -> float:
        assert isinstance(start, CpuEvent)
        return (self._done_s() - start._done_s()) * 1e3

    def _done_s(self) -> float:
        assert self._latest is not None
        assert self._latest.time_s is not None
        return self._latest.time_s


class _Work:
    """The work of a stream's thread. It has no reference to the stream, which may be dropped.

    Attributes:
        queue: callables to run, in order; None ends the thread.
        failure: the first failure; work after it is skipped.
    """

    def __init__(self) -> None:
        self.queue: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self.failure: BaseException | None = None

    def run(self) -> None:
        while (work := self.queue.get()) is not None:
            try:
                work()
            except BaseException as error:  # kept, and raised where the work is waited for
                self.failure = self.failure or error

    def abandon(self) -> None:
        """Skip work that has not begun."""
        self.failure = self.failure or PipelineError("the process is ending, or the stream is gone")


def _end(work: _Work, thread: Worker) -> None:
    """End a stream that was dropped, or is still open at the end of the process."""
    work.abandon()
    work.queue.put(None)
    thread.join()


class CpuStream:
    """A stream that runs its work in order in a thread of its own.

    After a failure the rest of the work is skipped, but events are still marked, so that a failure
    never leaves a caller waiting. ``synchronize`` raises the failure.

    Args:
        name: of the thread, for profilers.
    """

    def __init__(self, name: str) -> None:
        self._work = _Work()
        self._is_closed = False
        self.name = name
        self._thread = Worker(self._work.run, f"dff-{name}")
        bind(self, dropped=partial(_end, self._work, self._thread))
        self._thread.start()

    def enqueue(self, work: Callable[[], None]) -> None:
        of_stream = self._work

        def unless_failed() -> None:
            if of_stream.failure is None:
                work()

        self._put(unless_failed)

    def event(self) -> CpuEvent:
        return CpuEvent()

    def record(self, event: Event) -> None:
        assert isinstance(event, CpuEvent)
        record = _Record()
        self._put(record.finish)
        event._latest = record  # last: an interrupted call must leave no caller waiting

    def wait(self, event: Event) -> None:
        if not isinstance(event, CpuEvent):  # of another device, whose record this thread awaits
            self._put(event.synchronize)
        elif event._latest is not None:
            self._put(event._latest.wait)

    def synchronize(self) -> None:
        event = CpuEvent()
        self.record(event)
        event.synchronize()
        self.raise_failure()

    def raise_failure(self) -> None:
        failure = self._work.failure
        if failure is not None:
            raise PipelineError(f"the {self.name} stage failed: {words_of(failure)}") from failure

    def abandon(self) -> None:
        self._work.abandon()

    def close(self) -> None:
        self._is_closed = True
        self._work.queue.put(None)  # again on a second call: the first may have been interrupted
        self._thread.join()

    def _put(self, work: Callable[[], None]) -> None:
        if self._is_closed:
            raise PipelineError(f"stream '{self.name}' is closed and accepts no more work.")
        self._work.queue.put(work)


class CpuDevice:
    """The CPU as a device.

    Args:
        threads: threads of the native kernels, at most.
    """

    name = "cpu"
    copies = False

    def __init__(self, threads: int = 1) -> None:
        self.threads = threads

    def stream(self, name: str) -> CpuStream:
        return CpuStream(name)

    def host_stream(self, name: str) -> CpuStream:
        return CpuStream(name)

    def buffer(self, spec: TensorSpec, *, host: bool = False) -> CpuBuffer:
        return CpuBuffer(spec, spec.empty())

    def check_image(self, image: Any) -> Image:
        return check_image(image)

    def copy_in(self, buffer: Buffer, stream: Stream) -> None:
        """Do nothing: host and device share memory."""

    def copy_out(self, buffer: Buffer, stream: Stream) -> None:
        """Do nothing: host and device share memory."""

    def warp(
        self,
        features: Buffer,
        flow: Buffer,
        scale: Buffer,
        out: Buffer,
        stream: Stream,
        levels: MapLevels | None = None,
    ) -> None:
        threads = kernel_threads(out.array.size, self.threads)
        arrays = (features.array, flow.array, scale.array)

        def work() -> None:
            warp_features(*arrays, levels=levels, out=out.array, threads=threads)

        assert isinstance(stream, CpuStream)
        stream.enqueue(work)

    def close(self) -> None:
        """Do nothing: buffers are freed with their last reference."""
