"""Streams and events of CUDA, and host streams beside them. See ``runtime.devices.base``."""

from __future__ import annotations

from collections import deque

from dff_edge.errors import PipelineError
from dff_edge.lifetime import bind
from dff_edge.runtime.devices.base import Event
from dff_edge.runtime.devices.cpu import CpuStream
from dff_edge.runtime.devices.cuda.context import CudaContext
from dff_edge.runtime.devices.cuda.driver import CudaError, EventHandle, StreamHandle
from dff_edge.runtime.devices.cuda.ledger import Handle


class CudaEvent:
    """An event that records its time; made by ``CudaStream.event``.

    Args:
        device: creates and frees it.
    """

    def __init__(self, device: CudaContext) -> None:
        self._driver = driver = device.driver
        self._device = device  # must outlive its events
        with driver.current():
            self._event = device.handles.hold(self, driver.create_event(), driver.destroy_event)

    @property
    def handle(self) -> EventHandle:
        """Handle of the driver's package."""
        return self._event.get()

    @property
    def is_done(self) -> bool:
        with self._driver.current():
            return self._driver.is_event_done(self.handle)

    def synchronize(self) -> None:
        with self._driver.current():
            self._driver.synchronize_event(self.handle)

    def elapsed_ms_since(self, start: Event) -> float:
        with self._driver.current():
            return self._driver.elapsed_ms(_cuda_event(start).handle, self.handle)


class CudaStream:
    """A stream on the device, not ordered with the default stream.

    After a failure all calls raise and none blocks: CUDA does no more work in this process.

    Args:
        device: creates and frees it.
        name: for traces and messages.
        priority: lower numbers run first; 0 is the default, and only cuda-python accepts others.
    """

    def __init__(self, device: CudaContext, name: str, *, priority: int = 0) -> None:
        driver = device.driver
        with driver.current():
            stream = driver.create_stream(priority)
            self._open(device, name, device.handles.hold(self, stream, driver.destroy_stream))

    def _open(self, device: CudaContext, name: str, stream: Handle) -> None:
        self.name = name
        self.handle = device.driver.stream_number(stream.get())
        self._stream = stream
        self._device = device
        self._driver = device.driver
        self._is_closed = False
        bind(self)

    @property
    def stream(self) -> StreamHandle:
        """Handle of the driver's package; ``handle`` is CUDA's number.

        Raises:
            PipelineError: after closing.
        """
        if self._is_closed:
            raise PipelineError(f"stream '{self.name}' is closed and accepts no more work.")
        return self._stream.get()

    def event(self) -> CudaEvent:
        with self._driver.current():
            self._device.handles.free_dropped()
        return CudaEvent(self._device)

    def record(self, event: Event) -> None:
        try:
            with self._driver.current():
                self._driver.record(_cuda_event(event).handle, self.stream)
        except CudaError as error:
            raise self._failure(error) from error

    def wait(self, event: Event) -> None:
        try:
            with self._driver.current():
                self._driver.wait(self.stream, _cuda_event(event).handle)
        except CudaError as error:
            raise self._failure(error) from error

    def synchronize(self) -> None:
        try:
            with self._driver.current():
                self._driver.synchronize_stream(self.stream)
        except CudaError as error:
            raise self._failure(error) from error

    def raise_failure(self) -> None:
        if self._is_closed:
            return
        try:
            with self._driver.current():
                self._driver.is_stream_done(self.stream)
        except CudaError as error:
            raise self._failure(error) from error

    def abandon(self) -> None:
        """Do nothing: the device runs all that was enqueued."""

    def close(self) -> None:
        if self._is_closed:
            return
        try:
            with self._driver.current():
                self._driver.synchronize_stream(self.stream)
                self._stream.free()
        except CudaError:
            pass  # reported by synchronize or raise_failure; CUDA frees all with the context
        self._is_closed = True

    def _failure(self, error: CudaError) -> PipelineError:
        return PipelineError(f"the {self.name} stage failed: {error}")


class ExternalStream(CudaStream):
    """A stream made elsewhere: by torch, CuPy or a decoder. It is never freed here.

    Args:
        device: the device that the stream is on.
        handle: CUDA's number of the stream; it must outlive this object.
        name: for messages.

    Raises:
        EngineError: pycuda accepts only the default stream.
    """

    def __init__(self, device: CudaContext, handle: int, name: str = "external") -> None:
        stream = device.driver.foreign_stream(handle)
        self._open(device, name, Handle(stream, lambda _: None))  # its maker frees it


class CudaHostStream(CpuStream):
    """A thread of the CPU whose ``wait`` accepts events of CUDA too.

    It waits for the event's latest record at the time of the call: a stream of the device waits for
    the event at once, and the thread for that stream.
    """

    def __init__(self, device: CudaContext, name: str) -> None:
        self._relay = CudaStream(device, f"{name} relay")
        self._arrivals: deque[CudaEvent] = deque()  # events that are free for reuse
        super().__init__(name)

    def wait(self, event: Event) -> None:
        if not isinstance(event, CudaEvent):
            super().wait(event)
            return
        try:
            arrival = self._arrivals.popleft()
        except IndexError:
            arrival = self._relay.event()
        self._relay.wait(event)
        self._relay.record(arrival)
        arrivals = self._arrivals  # not the stream itself, which may be dropped

        def await_arrival() -> None:
            try:
                arrival.synchronize()
            finally:
                arrivals.append(arrival)

        self._put(await_arrival)

    def close(self) -> None:
        super().close()
        self._relay.close()


def _cuda_event(event: Event) -> CudaEvent:
    if not isinstance(event, CudaEvent):
        raise PipelineError(
            f"a CUDA stream was given a {type(event).__name__}, expected an event of "
            "CudaStream.event(). Have a host stream wait for work of the CPU."
        )
    return event
