"""The interface to the CUDA driver that both Python packages for it implement."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from dff_edge.errors import EngineError

StreamHandle = Any  # of the package's own type
EventHandle = Any
GraphHandle = Any


class CudaError(EngineError):
    """A call of CUDA failed.

    Args:
        call: CUDA's function, for example "cuMemAlloc".
        reason: CUDA's name for the error and its text.
        advice: what to do, a sentence.
    """

    def __init__(self, call: str, reason: str, advice: str = "") -> None:
        super().__init__(f"{call} failed: {reason}. {advice}".strip())
        self.call = call
        self.reason = reason


class DeviceMemory(NamedTuple):
    """Memory on the device: its address, and the handle that the package frees it by."""

    pointer: int
    handle: Any


class PinnedMemory(NamedTuple):
    """Page-locked host memory as bytes, and the handle that the package frees it by."""

    array: NDArray[np.uint8]
    handle: Any


class CurrentContext:
    """Makes a context current in the calling thread for a ``with`` block; can be nested.

    Args:
        push: makes the context current.
        pop: restores the previous one.
    """

    def __init__(self, push: Callable[[], None], pop: Callable[[], None]) -> None:
        self._push = push
        self._pop = pop
        self._thread = threading.local()

    def __enter__(self) -> None:
        depth = getattr(self._thread, "depth", 0)
        if depth == 0:
            self._push()
        self._thread.depth = depth + 1

    def __exit__(self, *_: object) -> None:
        self._thread.depth -= 1
        if self._thread.depth == 0:
            self._pop()


class Driver(Protocol):
    """One device's primary context, which is shared with all CUDA users in the process.

    All methods but ``current`` and ``close`` are called with the context current, and raise
    ``CudaError``. Work on streams is enqueued, and never waited for unless the name says
    ``synchronize``.
    """

    name: str  # "cuda-python" or "pycuda"
    has_graphs: bool
    ordinal: int
    device_name: str
    compute_capability: tuple[int, int]

    def current(self) -> CurrentContext:
        """Return a context manager that makes the context current in this thread."""

    def memory_info(self) -> tuple[int, int]:
        """Return the bytes of device memory, free and in all."""

    def allocate(self, nbytes: int) -> DeviceMemory:
        """Allocate device memory, contents undefined."""

    def free(self, memory: DeviceMemory) -> None:
        """Free device memory, which may wait for the whole device."""

    def allocate_pinned(self, nbytes: int) -> PinnedMemory:
        """Allocate page-locked host memory, which the device can copy from and to by itself."""

    def free_pinned(self, memory: PinnedMemory) -> None:
        """Free page-locked memory; its array must not be touched any more."""

    def copy_in(self, pointer: int, array: NDArray[Any], stream: StreamHandle) -> None:
        """Enqueue a copy of a contiguous pinned array to the device."""

    def copy_out(self, array: NDArray[Any], pointer: int, stream: StreamHandle) -> None:
        """Enqueue a copy from the device to a contiguous pinned array."""

    def create_stream(self, priority: int) -> StreamHandle:
        """Create a stream, not ordered with the default stream; lower priorities run first."""

    def foreign_stream(self, handle: int) -> StreamHandle:
        """Wrap a stream that other code in the process made and frees."""

    def stream_number(self, stream: StreamHandle) -> int:
        """Return CUDA's handle in the form that other libraries accept."""

    def is_stream_done(self, stream: StreamHandle) -> bool:
        """Return whether everything enqueued is done."""

    def synchronize_stream(self, stream: StreamHandle) -> None:
        """Wait for everything enqueued, without the GIL."""

    def destroy_stream(self, stream: StreamHandle) -> None:
        """Free a stream; work that is enqueued is still done."""

    def create_event(self) -> EventHandle:
        """Create an event that records its time."""

    def record(self, event: EventHandle, stream: StreamHandle) -> None:
        """Record an event: mark the work enqueued so far."""

    def wait(self, stream: StreamHandle, event: EventHandle) -> None:
        """Have the stream wait for the event's latest record."""

    def is_event_done(self, event: EventHandle) -> bool:
        """Return whether the latest record is done; True when never recorded."""

    def synchronize_event(self, event: EventHandle) -> None:
        """Wait for the latest record, without the GIL."""

    def elapsed_ms(self, start: EventHandle, end: EventHandle) -> float:
        """Return the milliseconds between two records that are done."""

    def destroy_event(self, event: EventHandle) -> None:
        """Free an event."""

    def begin_capture(self, stream: StreamHandle) -> None:
        """Record what this thread enqueues from now on instead of running it."""

    def end_capture(self, stream: StreamHandle) -> GraphHandle:
        """End the recording and return it as a graph, ready to launch."""

    def launch(self, graph: GraphHandle, stream: StreamHandle) -> None:
        """Enqueue a graph."""

    def destroy_graph(self, graph: GraphHandle) -> None:
        """Free a graph; a launch that is under way ends first."""

    def close(self) -> None:
        """Release the context. Closing twice is allowed."""
