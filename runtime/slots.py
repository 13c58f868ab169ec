"""Frames in flight: buffers, events and progress."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

from dff_edge.errors import EngineError, PipelineError
from dff_edge.frames import Frame
from dff_edge.runtime.devices.base import Device, Event, Stream
from dff_edge.runtime.engines.subnets import Subnets
from dff_edge.runtime.tasks.decoders import Answer
from dff_edge.runtime.trace import StageSpan


class Span(NamedTuple):
    """Start and end of a stage, as events of one stream."""

    start: Event
    end: Event


class Origin(NamedTuple):
    """An event and its time by ``time.perf_counter``."""

    event: Event
    time_s: float


class KeyBuffers:
    """Buffers of a key frame.

    Attributes:
        index: number of the frame.
        stamp_s: capture time of the frame.
        ready: event that its features are computed.
    """

    def __init__(self, device: Device, subnets: Subnets, feature: Stream) -> None:
        self.index = -1
        self.stamp_s = 0.0
        self.frame = device.buffer(subnets.feature.inputs["frame"], host=True)
        self.half = device.buffer(subnets.flow.inputs["key_half"], host=True)
        self.features = device.buffer(subnets.feature.outputs["features"])
        self.ready = feature.event()


class Slot:
    """Buffers and progress of a frame in flight.

    Attributes:
        outputs: tensors of the task network, by name.
        done: event that its result is ready.
    """

    def __init__(self, device: Device, subnets: Subnets) -> None:
        flow, task = subnets.flow, subnets.task
        self.half = device.buffer(flow.inputs["frame_half"], host=True)
        self.flow = device.buffer(flow.outputs["flow"])
        self.scale = device.buffer(flow.outputs["scale"])
        # A graph that warps keeps the warped features internal.
        warped = task.inputs["features"] if subnets.propagate is None else None
        self.features = None if warped is None else device.buffer(warped)
        self.outputs = {n: device.buffer(s, host=True) for n, s in task.outputs.items()}
        self.done: Event
        self._spans: dict[tuple[str, str], Span] = {}

    def start(self, frame: Frame) -> None:
        """Assign a frame to the slot."""
        self.frame = frame
        self.key_index = -1
        self.answer = Answer()
        self.submitted_s = self.ready_s = time.monotonic()
        self._resizes: list[tuple[float, float]] = []
        self._ran: list[tuple[str, str, Span]] = []

    @contextmanager
    def stage(self, name: str, stream: Stream) -> Iterator[Span]:
        """Mark the start and the end of the work enqueued inside.

        Raises:
            PipelineError: when a GPU's engine or driver refuses it.
        """
        try:
            span = self._spans.get((name, stream.name))
            if span is None:
                span = self._spans[name, stream.name] = Span(stream.event(), stream.event())
            stream.record(span.start)
            yield span
            stream.record(span.end)
        except EngineError as error:
            raise PipelineError(f"the {name} stage failed: {error}") from error
        self._ran.append((name, stream.name, span))

    @contextmanager
    def resizing(self) -> Iterator[None]:
        """Measure the time of the caller's thread inside."""
        start = time.perf_counter()
        yield
        self._resizes.append((start, time.perf_counter()))

    def mark_ready(self) -> None:
        """Mark the result as ready."""
        self.ready_s = time.monotonic()

    def stage_times(self) -> dict[str, float]:
        """Return the milliseconds of each stage that ran; valid when the frame is done."""
        times = {}
        if self._resizes:
            times["resize"] = sum(end - start for start, end in self._resizes) * 1e3
        for name, _, span in self._ran:
            times[name] = span.end.elapsed_ms_since(span.start)
        return times

    def spans(self, origins: Mapping[type[Event], Origin], begin_s: float) -> Iterator[StageSpan]:
        """Yield the time span of each stage, since ``begin_s`` by ``time.perf_counter``.

        Args:
            origins: by class of event, each of which has a clock of its own.
            begin_s: start of the trace.
        """
        index, key = self.frame.index, self.key_index
        for resize in self._resizes:
            since_ms = [(time_s - begin_s) * 1e3 for time_s in resize]
            yield StageSpan("resize", "caller", index, key, *since_ms)
        for name, stream, span in self._ran:
            origin = origins[type(span.start)]
            start_ms = (origin.time_s - begin_s) * 1e3 + span.start.elapsed_ms_since(origin.event)
            # From start to end by itself: CUDA returns float32, after an hour in quarters of a ms.
            end_ms = start_ms + span.end.elapsed_ms_since(span.start)
            yield StageSpan(name, stream, index, key, start_ms, end_ms)
