"""Frames in flight: buffers, events and progress."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

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


class Stages:
    """When the stages of one frame's work ran; its events serve one frame after another.

    Attributes:
        index: number of the frame.
    """

    def __init__(self) -> None:
        self.index = -1
        self._spans: dict[tuple[str, str], Span] = {}
        self._begin(-1)

    def _begin(self, index: int) -> None:
        self.index = index
        self._on_host: list[tuple[str, str, float, float]] = []
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
    def on_host(self, name: str, thread: str) -> Iterator[None]:
        """Measure the time inside, of work that is done at once and not enqueued.

        Args:
            name: of the stage.
            thread: where it runs, as a stream's name; "caller" for the one that submits.
        """
        start = time.perf_counter()
        yield
        self._on_host.append((name, thread, start, time.perf_counter()))

    def stage_times(self) -> dict[str, float]:
        """Milliseconds of each stage that ran; valid when all of them are done."""
        times: dict[str, float] = {}
        for name, _, start_s, end_s in self._on_host:
            times[name] = times.get(name, 0.0) + (end_s - start_s) * 1e3
        for name, _, span in self._ran:
            times[name] = span.end.elapsed_ms_since(span.start)
        return times

    def _spans_since(
        self, origins: Mapping[type[Event], Origin], begin_s: float, key: int
    ) -> Iterator[StageSpan]:
        for name, thread, *times_s in self._on_host:
            since_ms = [(time_s - begin_s) * 1e3 for time_s in times_s]
            yield StageSpan(name, thread, self.index, key, *since_ms)
        for name, stream, span in self._ran:
            origin = origins[type(span.start)]
            start_ms = (origin.time_s - begin_s) * 1e3 + span.start.elapsed_ms_since(origin.event)
            # From start to end by itself: CUDA returns float32, after an hour in quarters of a ms.
            end_ms = start_ms + span.end.elapsed_ms_since(span.start)
            yield StageSpan(name, stream, self.index, key, start_ms, end_ms)


class KeyBuffers(Stages):
    """Buffers of a key frame, and the stages that computed its features in the background.

    Attributes:
        stamp_s: when the frame was captured.
        ready: event that its features are computed.
        small: what staleness compares with later frames (``small_picture``); None until it did.
        score: largest ``sum_of_scores`` so far of an answer from it, where staleness is predicted.
    """

    def __init__(self, device: Device, subnets: Subnets, feature: Stream) -> None:
        super().__init__()
        self.stamp_s = 0.0
        self.small: NDArray[np.float32] | None = None
        self.score = 0.0
        self.frame = device.buffer(subnets.feature.inputs["frame"], host=True)
        self.half = device.buffer(subnets.flow.inputs["key_half"], host=True)
        self.features = device.buffer(subnets.feature.outputs["features"])
        self.ready = feature.event()

    def start(self, frame: Frame) -> None:
        """Take a frame."""
        self._begin(frame.index)
        self.stamp_s = frame.stamp_s
        self.small = None
        self.score = 0.0

    @property
    def is_ready(self) -> bool:
        """Whether its features are computed.

        Raises:
            PipelineError: when a GPU failed.
        """
        try:
            return self.ready.is_done
        except EngineError as error:
            raise PipelineError(f"the feature stage failed: {error}") from error

    def spans(self, origins: Mapping[type[Event], Origin], begin_s: float) -> Iterator[StageSpan]:
        """When each stage ran; see ``Slot.spans``."""
        yield from self._spans_since(origins, begin_s, self.index)


class Slot(Stages):
    """Buffers and progress of a frame in flight.

    Attributes:
        moved: flow, scale field, and the correction where there is one, by name.
        outputs: tensors of the task network, by name.
        done: event that its result is ready.
        first_use: the key frame whose features, computed in the background, it is the first to use.
        motion: from the key frame, where staleness is predicted (``measure_motion``); None for a
            key frame.
        expected_disagreement: see ``Result``.

    Args:
        device: where its buffers are.
        subnets: engines whose tensors they hold.
        reads_flow: whether the host reads the flow.
    """

    def __init__(self, device: Device, subnets: Subnets, *, reads_flow: bool = False) -> None:
        super().__init__()
        flow, task = subnets.flow, subnets.task
        self.half = device.buffer(flow.inputs["frame_half"], host=True)
        self.moved = {
            name: device.buffer(spec, host=reads_flow and name == "flow")
            for name, spec in flow.outputs.items()
        }
        # A graph that warps keeps the warped features internal.
        warped = task.inputs["features"] if subnets.propagate is None else None
        self.features = None if warped is None else device.buffer(warped)
        self.outputs = {n: device.buffer(s, host=True) for n, s in task.outputs.items()}
        self.done: Event

    def start(self, frame: Frame) -> None:
        """Take a frame."""
        self._begin(frame.index)
        self.frame = frame
        self.key_index, self.key_stamp_s = -1, 0.0
        self.first_use: KeyBuffers | None = None
        self.answer = Answer()
        self.motion: tuple[float, ...] | None = None
        self.expected_disagreement: float | None = None
        self.submitted_s = self.ready_s = time.monotonic()

    def mark_ready(self) -> None:
        """Mark the result as ready."""
        self.ready_s = time.monotonic()

    def stage_times(self) -> dict[str, float]:
        """Return the milliseconds of each stage that ran; valid when the frame is done.

        The first frame that uses a key frame has those that it took in the background, too.
        """
        own = super().stage_times()
        return own if self.first_use is None else {**self.first_use.stage_times(), **own}

    def spans(self, origins: Mapping[type[Event], Origin], begin_s: float) -> Iterator[StageSpan]:
        """Yield the time span of each stage, since ``begin_s`` by ``time.perf_counter``.

        Args:
            origins: by class of event, each of which has a clock of its own.
            begin_s: start of the trace.
        """
        if self.first_use is not None:
            yield from self.first_use.spans(origins, begin_s)
        yield from self._spans_since(origins, begin_s, self.key_index)
