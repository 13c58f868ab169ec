"""The streams of a scheduler, and what happens to all of them at once."""

from __future__ import annotations

from contextlib import suppress

from dff_edge.errors import EngineError, PipelineError
from dff_edge.runtime.devices.base import ANSWERS_FIRST, FEATURES_LATER, Device, Event, Stream
from dff_edge.runtime.keys import KeyMode


class Streams:
    """One stream for each kind of work, or one for all networks.

    Args:
        device: where they are opened.
        overlap: whether the networks have a stream each. The feature network has its own in any
            case where key frames are computed in the background.
        keys: unless in order, the feature stream has a lower priority than the others.

    Attributes:
        feature, flow, task, decode: where these stages run.
        copy_in, copy_out: the same; None where the device has no memory of its own.
    """

    def __init__(self, device: Device, *, overlap: bool, keys: KeyMode) -> None:
        self._all: list[Stream] = []
        self._is_in_order = keys.is_in_order
        try:
            self._open(device, overlap)
            self._ends = [(stream, stream.event()) for stream in self._all]
        except BaseException:  # leaves no thread behind
            self.close()
            raise

    def _open(self, device: Device, overlap: bool) -> None:
        self.copy_in: Stream | None
        self.copy_out: Stream | None
        if overlap:
            self.copy_in = self._opened(device, "copy in") if device.copies else None
            self.feature = self._opened(device, "feature", is_feature=True)
            self.flow = self._opened(device, "flow")
            self.task = self._opened(device, "task")
            self.copy_out = self._opened(device, "copy out") if device.copies else None
        else:
            one = self._opened(device, "networks")
            in_order = self._is_in_order
            self.feature = one if in_order else self._opened(device, "feature", is_feature=True)
            self.flow = self.task = one
            self.copy_in = self.copy_out = one if device.copies else None
        self.decode = device.host_stream("decode")
        self._all.append(self.decode)

    def _opened(self, device: Device, name: str, *, is_feature: bool = False) -> Stream:
        background = FEATURES_LATER if is_feature else ANSWERS_FIRST
        stream = device.stream(name, priority=0 if self._is_in_order else background)
        self._all.append(stream)
        return stream

    def raise_failure(self) -> None:
        """Raise the failure of a stage, if there was one.

        Raises:
            PipelineError: when a stage failed.
        """
        for stream in self._all:
            stream.raise_failure()

    def drain(self) -> None:
        """Wait for the work enqueued so far; a failed stage is not reported."""
        for stream, end in self._ends:
            with suppress(PipelineError, EngineError):  # a GPU that failed runs nothing any more
                stream.record(end)
                end.synchronize()

    def clocks(self) -> dict[type[Event], Stream]:
        """Return a stream for each kind of event, which has a clock of its own."""
        streams: dict[type[Event], Stream] = {}
        for stream in (self.task, self.decode):
            streams.setdefault(type(stream.event()), stream)
        return streams

    def abandon(self) -> None:
        """Skip work that has not begun; waiting callers get an error. For any thread."""
        for stream in self._all:
            stream.abandon()

    def close(self) -> None:
        """Finish the work enqueued and end all threads. Closing twice is allowed."""
        for stream in self._all:
            stream.close()
