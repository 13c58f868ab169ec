"""What the device asks of CUDA, and the words that both Python packages for it are put into."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from dff_edge.errors import EngineError

StreamHandle = Any  # what the package calls a stream
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
    """Memory on the device: its address, and what the package frees it by."""

    pointer: int
    handle: Any


class PinnedMemory(NamedTuple):
    """Page-locked host memory as bytes, and what the package frees it by."""

    array: NDArray[np.uint8]
    handle: Any


class CurrentContext:
    """Makes a context current in the calling thread, for the time of a ``with`` block; nests.

    Args:
        push: makes it current.
        pop: restores what was current before.
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
    """One device's primary context, which is shared with everything else in the process.

    All but ``current`` and ``close`` are called with the context current, and raise ``CudaError``.
    Work on streams is enqueued, never waited for, where the name does not say ``synchronize``.
    """

    name: str  # "cuda-python" or "pycuda"
    has_graphs: bool
    ordinal: int
    device_name: str
    compute_capability: tuple[int, int]

    def current(self) -> CurrentContext:
        """Make the context current in this thread while inside."""

    def memory_info(self) -> tuple[int, int]:
        """Bytes of device memory, free and in all."""

    def allocate(self, nbytes: int) -> DeviceMemory:
        """New device memory, contents undefined."""

    def free(self, memory: DeviceMemory) -> None:
        """Free it, which may wait for the whole device."""

    def allocate_pinned(self, nbytes: int) -> PinnedMemory:
        """New host memory that the device can copy from and to by itself."""

    def free_pinned(self, memory: PinnedMemory) -> None:
        """Free it; its array must not be touched any more."""

    def copy_in(self, pointer: int, array: NDArray[Any], stream: StreamHandle) -> None:
        """Enqueue a copy of a contiguous pinned array to the device."""

    def copy_out(self, array: NDArray[Any], pointer: int, stream: StreamHandle) -> None:
        """Enqueue a copy from the device to a contiguous pinned array."""

    def create_stream(self, priority: int) -> StreamHandle:
        """New stream, in no order with the default stream; lower numbers go first."""

    def foreign_stream(self, handle: int) -> StreamHandle:
        """A stream that something else in the process made and frees."""

    def stream_number(self, stream: StreamHandle) -> int:
        """CUDA's handle as other libraries take it."""

    def is_stream_done(self, stream: StreamHandle) -> bool:
        """Whether everything enqueued is done."""

    def synchronize_stream(self, stream: StreamHandle) -> None:
        """Wait for everything enqueued, without the GIL."""

    def destroy_stream(self, stream: StreamHandle) -> None:
        """Free it; what is enqueued is still done."""

    def create_event(self) -> EventHandle:
        """New event that keeps the time."""

    def record(self, event: EventHandle, stream: StreamHandle) -> None:
        """Mark the work enqueued so far."""

    def wait(self, stream: StreamHandle, event: EventHandle) -> None:
        """Have the stream wait for the event's latest record."""

    def is_event_done(self, event: EventHandle) -> bool:
        """Whether the latest record is done; True when never recorded."""

    def synchronize_event(self, event: EventHandle) -> None:
        """Wait for the latest record, without the GIL."""

    def elapsed_ms(self, start: EventHandle, end: EventHandle) -> float:
        """Milliseconds between two records that are done."""

    def destroy_event(self, event: EventHandle) -> None:
        """Free it."""

    def begin_capture(self, stream: StreamHandle) -> None:
        """Have what this thread enqueues from now on recorded instead of run."""

    def end_capture(self, stream: StreamHandle) -> GraphHandle:
        """What was recorded, ready to launch."""

    def launch(self, graph: GraphHandle, stream: StreamHandle) -> None:
        """Enqueue what was recorded."""

    def destroy_graph(self, graph: GraphHandle) -> None:
        """Free it; a launch that is under way ends first."""

    def close(self) -> None:
        """Let go of the context. Closing twice is allowed."""
