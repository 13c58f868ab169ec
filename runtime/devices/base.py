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

from dff_edge.bundle.levels import MapLevels
from dff_edge.bundle.tensors import TensorSpec

# Priorities of streams where key frames are computed in the background.
ANSWERS_FIRST, FEATURES_LATER = -1, 1


class Buffer(Protocol):
    """Memory of one tensor on a device, allocated once and used again for every frame."""

    @property
    def spec(self) -> TensorSpec:
        """Name, dtype and shape."""

    @property
    def array(self) -> NDArray[Any]:
        """The memory as the host sees it; valid to touch only when no stream is using it.

        On a device that ``copies`` it is a second memory, that of buffers made for the host.
        """


class Event(Protocol):
    """A point in the work of a stream."""

    @property
    def is_done(self) -> bool:
        """Whether the latest record is done; True when never recorded."""

    def synchronize(self) -> None:
        """Block the caller until the latest record is done."""

    def elapsed_ms_since(self, start: Event) -> float:
        """Milliseconds from ``start`` to this event, both done and of the same class."""


class Stream(Protocol):
    """Work in order."""

    @property
    def name(self) -> str:
        """What it is called in traces and messages."""

    def event(self) -> Event:
        """A new event that this stream can record."""

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

    def abandon(self) -> None:
        """Skip what has not begun, where that can be; events are marked all the same.

        May be called in any thread, and returns at once. ``synchronize`` raises afterwards.
        """

    def close(self) -> None:
        """Finish what is enqueued and free the stream. Closing twice is allowed."""


class HostStream(Stream, Protocol):
    """Work in order in a thread of the CPU. It can wait for any event of its device."""

    def enqueue(self, work: Callable[[], None]) -> None:
        """Have ``work`` called in the stream's own thread; return at once."""


class Device(Protocol):
    """Where subnets run."""

    @property
    def name(self) -> str:
        """For example "cpu"."""

    @property
    def copies(self) -> bool:
        """Whether device and host see different memory, so that arrays must be copied."""

    def stream(self, name: str, *, priority: int = 0) -> Stream:
        """A new stream of the device; its owner closes it.

        Args:
            name: for traces and messages.
            priority: lower numbers go first, as CUDA has it; 0 is the usual. A device takes what it
                has next to it.
        """

    def host_stream(self, name: str) -> HostStream:
        """A new stream of work for the CPU; its owner closes it."""

    def buffer(self, spec: TensorSpec, *, host: bool = False) -> Buffer:
        """New memory for a tensor.

        Args:
            host: whether the host reads or writes it too, by ``copy_in`` and ``copy_out``.
        """

    def copy_in(self, buffer: Buffer, stream: Stream) -> None:
        """Enqueue the copy from ``buffer.array`` to the device, where it ``copies``."""

    def copy_out(self, buffer: Buffer, stream: Stream) -> None:
        """Enqueue the copy from the device to ``buffer.array``, where it ``copies``."""

    def check_image(self, image: Any) -> Any:
        """Give an image as what a frame may hold, uint8 ``(H, W, 3)`` BGR.

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
    """A device that takes images in its own memory, and hands out label maps there."""

    def resize(self, image: Any, out: Buffer, stream: Stream) -> None:
        """Enqueue the resizing of ``check_image``'s image to ``out``, uint8 ``(1, H, W, 3)``."""

    def decode(
        self, scores: Buffer, size: tuple[int, int], stream: Stream, *, confidence: bool
    ) -> tuple[Any, Any]:
        """Enqueue the decoding of float32 scores ``(1, h, w, K)``.

        Returns:
            Labels uint8 of ``size`` and their confidence or None, arrays on the device that are
            written when the stream has come so far; the receiver's.
        """
