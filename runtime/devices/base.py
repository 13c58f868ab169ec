"""Device, Stream, Event and Buffer: the interface that the scheduler is written against.

The semantics are CUDA's. A stream runs the work enqueued on it in order, asynchronously to the
caller. Recording an event on a stream marks the work enqueued so far; a stream that waits for an
event starts no further work before the event's *latest record at the time of the call* is done.
Waiting for an event that was never recorded returns at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from numpy.typing import NDArray

from dff_edge.bundle.levels import MapLevels
from dff_edge.bundle.tensors import TensorSpec


class Buffer(Protocol):
    """Memory of one tensor on a device, allocated once and reused for every frame."""

    @property
    def spec(self) -> TensorSpec:
        """Name, dtype and shape."""

    @property
    def array(self) -> NDArray[Any]:
        """The memory as the host sees it; valid to touch only when no stream is using it.

        On a device that ``copies`` it is a second memory, that of buffers made for the host.
        """


class Event(Protocol):
    """A point in the work of a stream: marks that what was enqueued before it is done."""

    @property
    def is_done(self) -> bool:
        """Return whether the latest record is done; True when never recorded."""

    def synchronize(self) -> None:
        """Block the caller until the latest record is done."""

    def elapsed_ms_since(self, start: Event) -> float:
        """Return the milliseconds from ``start`` to this event, both done and of the same class."""


class Stream(Protocol):
    """A queue of work that runs in order."""

    @property
    def name(self) -> str:
        """Name in traces and messages."""

    def event(self) -> Event:
        """Return a new event that this stream can record."""

    def record(self, event: Event) -> None:
        """Mark the work enqueued so far."""

    def wait(self, event: Event) -> None:
        """Hold back work enqueued from now on until ``event`` is done; return at once."""

    def synchronize(self) -> None:
        """Block the caller until everything enqueued is done.

        Raises:
            PipelineError: when some of it failed; the cause is attached.
        """

    def raise_failure(self) -> None:
        """Raise what ``synchronize`` would raise for work that has failed already; never blocks."""

    def abandon(self) -> None:
        """Skip work that has not begun, where possible; events are still marked.

        May be called in any thread, and returns at once. ``synchronize`` raises afterwards.
        """

    def close(self) -> None:
        """Finish what is enqueued and free the stream. Closing twice is allowed."""


class HostStream(Stream, Protocol):
    """A stream whose work runs in a thread of the CPU. It can wait for any event of its device."""

    def enqueue(self, work: Callable[[], None]) -> None:
        """Enqueue a call of ``work`` in the stream's own thread; return at once."""


class Device(Protocol):
    """A device that subnets run on."""

    @property
    def name(self) -> str:
        """Name, for example "cpu"."""

    @property
    def copies(self) -> bool:
        """Whether device and host have separate memory, so that arrays must be copied."""

    def stream(self, name: str) -> Stream:
        """Return a new stream of the device; its owner closes it."""

    def host_stream(self, name: str) -> HostStream:
        """Return a new stream for work on the CPU; its owner closes it."""

    def buffer(self, spec: TensorSpec, *, host: bool = False) -> Buffer:
        """Allocate memory for a tensor.

        Args:
            host: whether the host reads or writes it too, by ``copy_in`` and ``copy_out``.
        """

    def copy_in(self, buffer: Buffer, stream: Stream) -> None:
        """Enqueue the copy from ``buffer.array`` to the device, where it ``copies``."""

    def copy_out(self, buffer: Buffer, stream: Stream) -> None:
        """Enqueue the copy from the device to ``buffer.array``, where it ``copies``."""

    def check_image(self, image: Any) -> Any:
        """Return an image in the form that a frame may hold, uint8 ``(H, W, 3)`` BGR.

        Raises:
            FrameError: for anything else.
        """

    def warp(
        self,
        features: Buffer,
        flow: Buffer,
        scale: Buffer,
        out: Buffer,
        stream: Stream,
        levels: MapLevels | None = None,
    ) -> None:
        """Enqueue feature propagation, Eq. (3), of float maps or bytes with levels."""

    def close(self) -> None:
        """Free everything. Streams are closed before; closing twice is allowed."""


class ImageDevice(Device, Protocol):
    """A device that accepts images in its own memory, and returns label maps there."""

    def resize(self, image: Any, out: Buffer, stream: Stream) -> None:
        """Enqueue the resizing of ``check_image``'s image to ``out``, uint8 ``(1, H, W, 3)``."""

    def decode(
        self, scores: Buffer, size: tuple[int, int], stream: Stream, *, confidence: bool
    ) -> tuple[Any, Any]:
        """Enqueue the decoding of float32 scores ``(1, h, w, K)``.

        Returns:
            Labels uint8 of ``size`` and their confidence or None: arrays on the device, owned by
            the receiver, valid once the stream has finished the work enqueued so far.
        """
