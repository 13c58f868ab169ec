"""The scheduler: Algorithm 1 on streams, with the flow of frame i + 1 beside the task of frame i.

Streams and what runs on them::

    feature   f_k = N_feat(I_k)                         key frames
    flow      M, S = F(I_k, I_i)                        other frames
    task      f_i = W(f_k, M, S), y_i = N_task(f_i)     every frame
    decode    label map at the size of the source       every frame

A frame's buffers are a ``_Slot``, a key frame's a ``_KeyBuffers``; all are allocated once. There
are as many of one as of the other, so that a new key frame never waits for those in flight. A
frame is answered from whatever key frame it is given, its own or an older one: when a key frame's
features become usable is the caller's choice.

Source: Zhu et al., CVPR 2017, arXiv:1611.07715, Algorithm 1.
"""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dff_edge.runtime.contract import MapLevels
from dff_edge.runtime.cpu import kernel_threads
from dff_edge.runtime.decode import decode_labels
from dff_edge.runtime.device import Buffer, Device, Event, Stream
from dff_edge.runtime.engine import Engine
from dff_edge.runtime.errors import PipelineError
from dff_edge.runtime.frames import Frame, LabelMap, Result
from dff_edge.runtime.resize import FrameResizer
from dff_edge.runtime.trace import StageSpan, Trace

_STAGES = ("feature", "flow", "warp", "task", "decode")


@dataclass(frozen=True)
class Subnets:
    """The three engines of a bundle in one precision.

    Attributes:
        levels: of features and scale field where they are bytes, None where they are float32.
    """

    feature: Engine
    flow: Engine
    task: Engine
    levels: MapLevels | None = None

    def close(self) -> None:
        """Free all three."""
        for engine in (self.feature, self.flow, self.task):
            engine.close()


class Scheduler:
    """Runs frames through the subnets and hands results back in order.

    Not thread-safe: one thread submits and collects.

    Args:
        device: where buffers and streams live.
        subnets: engines whose tensors fit each other; closed by their owner.
        depth: frames in flight at most.
        decode_threads: threads of the decoding kernel, at most.
        confidence: whether results get one.
        trace: takes the span of every stage of every result.
    """

    def __init__(
        self,
        device: Device,
        subnets: Subnets,
        *,
        depth: int = 2,
        decode_threads: int = 1,
        confidence: bool = False,
        trace: Trace | None = None,
    ) -> None:
        if depth < 1:
            raise PipelineError(f"depth is {depth}, expected at least 1 frame in flight.")
        frame_shape = subnets.feature.inputs["frame"].shape
        self._resizer = FrameResizer((frame_shape[1], frame_shape[2]))
        self._device = device
        self._subnets = subnets
        self._decode_threads = decode_threads
        self._has_confidence = confidence
        self._slots = [_Slot(device, subnets) for _ in range(depth)]
        self._free = deque(self._slots)
        self._busy: deque[_Slot] = deque()
        self._keys = itertools.cycle([_KeyBuffers(device, subnets) for _ in range(depth)])
        self._key: _KeyBuffers | None = None
        self.depth = depth
        # Last: what fails before leaves no thread behind.
        self._streams = {
            name: device.stream(name) for name in ("feature", "flow", "task", "decode")
        }
        self._trace = trace
        self._origin: tuple[Event, float] | None = None

    @property
    def is_full(self) -> bool:
        """Whether a result must be collected before another frame is submitted."""
        return not self._free

    @property
    def in_flight(self) -> int:
        """Frames submitted and not collected."""
        return len(self._busy)

    @property
    def is_next_done(self) -> bool:
        """Whether ``collect`` would return without waiting."""
        return bool(self._busy) and self._busy[0].events["decode"].end.is_done

    def submit(self, frame: Frame, *, is_key: bool) -> None:
        """Start a frame; its image is read before this returns, and nothing is waited for.

        Args:
            frame: with a checked image.
            is_key: whether its features are computed and it becomes the key frame.

        Raises:
            PipelineError: when ``is_full``, no key frame was submitted before, or a stage failed.
        """
        self._raise_failure()
        if self._trace is not None and self._origin is None:
            self._origin = self._mark_origin()
        if self.is_full:
            raise PipelineError(f"{self.depth} frames are in flight; collect a result first.")
        if not is_key and self._key is None:
            raise PipelineError("the first frame has no key frame before it; submit it as one.")
        slot = self._free.popleft()
        slot.start(frame)
        if is_key:
            self._key = self._extract(slot)
        assert self._key is not None
        slot.key_index = self._key.index
        self._answer(slot, self._key)
        self._busy.append(slot)

    def collect(self) -> Result:
        """Wait for the oldest frame in flight and return its result.

        Raises:
            PipelineError: when nothing is in flight, or a stage failed.
        """
        if not self._busy:
            raise PipelineError("no frame is in flight; submit one first.")
        slot = self._busy[0]
        slot.events["decode"].end.synchronize()
        self._raise_failure()
        assert slot.labels is not None
        result = Result(
            frame=slot.frame,
            labels=slot.labels,
            key_index=slot.key_index,
            latency_s=slot.ready_s - slot.submitted_s,
            stage_ms=slot.stage_times(),
            age_s=slot.ready_s - slot.frame.stamp_s if slot.frame.live else None,
            confidence=slot.confidence,
        )
        if self._trace is not None and self._origin is not None:
            for span in slot.spans(*self._origin):
                self._trace.add(span)
        self._free.append(self._busy.popleft())
        return result

    def drop_all(self) -> None:
        """Wait for what is in flight and forget it; a stage that failed is not reported.

        A ``submit`` or ``collect`` that was interrupted (Ctrl-C) is forgotten too.
        """
        # The streams, not the frames: of an interrupted submit only they know.
        for stream in self._streams.values():
            event = self._device.event()
            stream.record(event)
            event.synchronize()
        self._busy.clear()
        self._free = deque(self._slots)

    def forget_key(self) -> None:
        """Have the next frame be a key frame, for a new source or after a gap."""
        self._key = None

    @property
    def key_index(self) -> int | None:
        """Number of the frame that is the key frame now, None when there is none."""
        return None if self._key is None else self._key.index

    def close(self) -> None:
        """Finish what is in flight and end all streams' threads. Closing twice is allowed."""
        for stream in self._streams.values():
            stream.close()

    def _mark_origin(self) -> tuple[Event, float]:
        """When the trace begins, as an event and by the caller's clock, within a hand-over."""
        origin, before_s = self._device.event(), time.perf_counter()
        self._streams["task"].record(origin)
        origin.synchronize()
        return origin, (before_s + time.perf_counter()) / 2

    def _raise_failure(self) -> None:
        for stream in self._streams.values():
            stream.raise_failure()

    def _extract(self, slot: _Slot) -> _KeyBuffers:
        """Line 8: compute the features of a new key frame."""
        key = next(self._keys)
        key.index = slot.frame.index
        with slot.resizing():
            self._resizer.full(slot.frame.image, key.frame.array)
            self._resizer.half(slot.frame.image, key.half.array)
        stream = self._streams["feature"]
        with slot.stage("feature", stream):
            self._subnets.feature.enqueue({"frame": key.frame}, {"features": key.features}, stream)
        stream.record(key.ready)
        return key

    def _answer(self, slot: _Slot, key: _KeyBuffers) -> None:
        """Lines 9 and 11-12: the result of a frame from a key frame's features."""
        task, decode = self._streams["task"], self._streams["decode"]
        if key.index == slot.frame.index:
            features = key.features
            task.wait(key.ready)
        else:
            features = self._propagate(slot, key)
        with slot.stage("task", task):
            self._subnets.task.enqueue({"features": features}, {"scores": slot.scores}, task)
        decode.wait(slot.events["task"].end)
        with slot.stage("decode", decode):
            decode.enqueue(lambda: self._decode(slot))

    def _propagate(self, slot: _Slot, key: _KeyBuffers) -> Buffer:
        """Line 11: estimate flow and scale, warp the key frame's features."""
        with slot.resizing():
            self._resizer.half(slot.frame.image, slot.half.array)
        flow, task = self._streams["flow"], self._streams["task"]
        with slot.stage("flow", flow):
            self._subnets.flow.enqueue(
                {"key_half": key.half, "frame_half": slot.half},
                {"flow": slot.flow, "scale": slot.scale},
                flow,
            )
        task.wait(slot.events["flow"].end)
        task.wait(key.ready)
        with slot.stage("warp", task):
            self._device.warp(
                key.features, slot.flow, slot.scale, slot.features, task, self._subnets.levels
            )
        return slot.features

    def _decode(self, slot: _Slot) -> None:
        height, width = slot.frame.image.shape[:2]
        slot.confidence = np.empty((height, width), np.uint8) if self._has_confidence else None
        slot.labels = decode_labels(
            slot.scores.array[0],
            (height, width),
            confidence=slot.confidence,
            threads=kernel_threads(height * width, self._decode_threads),
        )
        slot.ready_s = time.monotonic()


class _KeyBuffers:
    """What is kept of a key frame."""

    def __init__(self, device: Device, subnets: Subnets) -> None:
        self.index = -1
        self.frame = device.buffer(subnets.feature.inputs["frame"])
        self.half = device.buffer(subnets.flow.inputs["key_half"])
        self.features = device.buffer(subnets.feature.outputs["features"])
        self.ready = device.event()


class _Span(NamedTuple):
    """Start and end of a stage."""

    start: Event
    end: Event


class _Slot:
    """What a frame in flight needs, and where it stands."""

    def __init__(self, device: Device, subnets: Subnets) -> None:
        flow, task = subnets.flow, subnets.task
        self.half = device.buffer(flow.inputs["frame_half"])
        self.flow = device.buffer(flow.outputs["flow"])
        self.scale = device.buffer(flow.outputs["scale"])
        self.features = device.buffer(task.inputs["features"])
        self.scores = device.buffer(task.outputs["scores"])
        self.events = {name: _Span(device.event(), device.event()) for name in _STAGES}

    def start(self, frame: Frame) -> None:
        """Take a frame."""
        self.frame = frame
        self.key_index = -1
        self.labels: LabelMap | None = None
        self.confidence: NDArray[np.uint8] | None = None
        self.submitted_s = self.ready_s = time.monotonic()
        self._resizes: list[tuple[float, float]] = []
        self._ran: list[tuple[str, str]] = []

    @contextmanager
    def stage(self, name: str, stream: Stream) -> Iterator[None]:
        """Mark the start and the end of what is enqueued inside."""
        span = self.events[name]
        stream.record(span.start)
        yield
        stream.record(span.end)
        self._ran.append((name, stream.name))

    @contextmanager
    def resizing(self) -> Iterator[None]:
        """Time what the caller's thread does inside."""
        start = time.perf_counter()
        yield
        self._resizes.append((start, time.perf_counter()))

    def stage_times(self) -> dict[str, float]:
        """Milliseconds of each stage that ran; valid when the frame is done."""
        times = {"resize": sum(end - start for start, end in self._resizes) * 1e3}
        for name, _ in self._ran:
            times[name] = self.events[name].end.elapsed_ms_since(self.events[name].start)
        return times

    def spans(self, origin: Event, origin_s: float) -> Iterator[StageSpan]:
        """When each stage ran, since an event at a time by ``time.perf_counter``."""
        index, key = self.frame.index, self.key_index
        for start_s, end_s in self._resizes:
            since_ms = [(time_s - origin_s) * 1e3 for time_s in (start_s, end_s)]
            yield StageSpan("resize", "caller", index, key, *since_ms)
        for name, stream in self._ran:
            since_ms = [event.elapsed_ms_since(origin) for event in self.events[name]]
            yield StageSpan(name, stream, index, key, *since_ms)
