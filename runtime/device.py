"""Device, Stream, Event, Buffer: the words of asynchronous work, that the scheduler is written in.

The meaning is CUDA's. A stream runs what is enqueued on it, in order, apart from the caller.
Recording an event on a stream marks the work enqueued so far; a stream that waits for an event
starts nothing further before the event's *latest record at the time of the call* is done. An
event that was never recorded holds nobody up.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from numpy.typing import NDArray

from dff_edge.runtime.contract import MapLevels
from dff_edge.runtime.engine import TensorSpec


class Buffer(Protocol):
    """Memory of one tensor on a device, allocated once and used again for every frame."""

    @property
    def spec(self) -> TensorSpec:
        """Name, dtype and shape."""

    @property
    def array(self) -> NDArray[Any]:
        """The memory as the host sees it; valid to touch only when no stream is using it."""


class Event(Protocol):
    """A point in the work of a stream."""

    @property
    def is_done(self) -> bool:
        """Whether the latest record is done; True when never recorded."""

    def synchronize(self) -> None:
        """Block the caller until the latest record is done."""

    def elapsed_ms_since(self, start: Event) -> float:
        """Milliseconds from ``start`` to this event, both done."""


class Stream(Protocol):
    """Work in order."""

    @property
    def name(self) -> str:
        """What it is called in traces and messages."""

    def enqueue(self, work: Callable[[], None]) -> None:
        """Have ``work`` called, on the CPU in the stream's own thread; return at once."""

    def record(self, event: Event) -> None:
        """Mark the work enqueued so far."""

    def wait(self, event: Event) -> None:
        """Start nothing enqueued from now on before ``event`` is done; return at once."""

    def synchronize(self) -> None:
        """Block the caller until everything enqueued is done.

        Raises:
            PipelineError: when some of it failed; the cause is attached.
        """

    def raise_failure(self) -> None:
        """Raise what ``synchronize`` would raise for work that has failed already; never blocks."""

    def close(self) -> None:
        """Finish what is enqueued and free the stream. Closing twice is allowed."""


class Device(Protocol):
    """Where subnets run."""

    @property
    def name(self) -> str:
        """For example "cpu"."""

    def stream(self, name: str) -> Stream:
        """A new stream; its owner closes it."""

    def event(self) -> Event:
        """A new event."""

    def buffer(self, spec: TensorSpec) -> Buffer:
        """New memory for a tensor."""

    def warp(
        self,
        features: Buffer,
        flow: Buffer,
        scale: Buffer,
        out: Buffer,
        stream: Stream,
        levels: MapLevels | None = None,
    ) -> None:
        """Enqueue feature propagation, Eq. (3), of float32 maps or bytes with levels."""
