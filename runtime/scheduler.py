"""The scheduler: Algorithm 1 on streams, with the flow of frame i + 1 beside the task of frame i.

Streams and what runs on them::

    copy in    the frame at the networks' sizes         where the device has memory of its own
    feature    f_k = N_feat(I_k)                        key frames
    flow       M, S = F(I_k, I_i)                       other frames
    task       f_i = W(f_k, M, S), y_i = N_task(f_i)    every frame
    copy out   outputs of the task network              where the device has memory of its own
    decode     label map or boxes of the source frame   every frame, on the CPU

Without overlap all but the last are one stream. The results are the same to the bit:
dependences are ordered by events.

A frame's buffers are a ``Slot``, a key frame's a ``KeyBuffers``; all are allocated once. There
are as many of one as of the other, so that a new key frame never waits for those in flight. A
frame is propagated from the key frame that is passed, its own or an older one: the caller decides
when a key frame's features are used.

Source: Zhu et al., CVPR 2017, arXiv:1611.07715, Algorithm 1.
"""

from __future__ import annotations

import math
import time
from contextlib import suppress
from functools import partial
from typing import cast

import numpy as np

from dff_edge.errors import EngineError, PipelineError
from dff_edge.frames import Frame, Result
from dff_edge.lifetime import bind
from dff_edge.runtime.devices.base import Buffer, Device, Event, ImageDevice, Stream
from dff_edge.runtime.engines.subnets import Subnets
from dff_edge.runtime.kernels.resize import FrameResizer
from dff_edge.runtime.slots import KeyBuffers, Origin, Slot
from dff_edge.runtime.tasks.decoders import Decoder, DeviceDecoder
from dff_edge.runtime.tasks.segmentation import LabelDecoder
from dff_edge.runtime.trace import Trace


class Scheduler:
    """Runs frames through the subnets and returns results in order.

    Not thread-safe: one thread submits and collects. Calls are atomic when interrupted (Ctrl-C, no
    memory): the frame was not accepted, the result not returned.

    Args:
        device: allocates buffers and streams; closed by its owner.
        subnets: engines whose tensors fit each other; closed by their owner.
        decoder: turns outputs of the task network into results, not shared with other threads;
            None for label maps, in one thread.
        depth: frames in flight at most.
        overlap: whether each network has a stream of its own, or all share one.
        trace: records the span of every stage of every result.
    """

    def __init__(
        self,
        device: Device,
        subnets: Subnets,
        decoder: Decoder | None = None,
        *,
        depth: int = 2,
        overlap: bool = True,
        trace: Trace | None = None,
    ) -> None:
        if depth < 1:
            raise PipelineError(f"depth is {depth}, expected at least 1 frame in flight.")
        frame_shape = subnets.feature.inputs["frame"].shape
        self._resizer = FrameResizer((frame_shape[1], frame_shape[2]))
        self._device = device
        self._subnets = subnets
        self._decoder = LabelDecoder() if decoder is None else decoder
        self.depth = depth
        self.overlap = overlap
        self._trace = trace
        self._origins: dict[type[Event], Origin] = {}
        self._trace_begin_s = 0.0
        self._key: KeyBuffers | None = None
        self._streams: list[Stream] = []
        try:
            self._open_streams()
            self._ends = [(stream, stream.event()) for stream in self._streams]
            self._slots = [Slot(device, subnets) for _ in range(depth)]
            self._keys = [KeyBuffers(device, subnets, self._feature_stream) for _ in range(depth)]
        except BaseException:  # leaves no thread behind
            self.close()
            raise
        # Number of frames and key frames so far, which selects the slot.
        self._submitted = self._collected = self._extracted = 0
        bind(self)

    def _open_streams(self) -> None:
        def opened(stream: Stream) -> Stream:
            self._streams.append(stream)
            return stream

        device = self._device
        if self.overlap:
            self._copy_in_stream = opened(device.stream("copy in")) if device.copies else None
            self._feature_stream = opened(device.stream("feature"))
            self._flow_stream = opened(device.stream("flow"))
            self._task_stream = opened(device.stream("task"))
            self._copy_out_stream = opened(device.stream("copy out")) if device.copies else None
        else:
            one = opened(device.stream("networks"))
            self._feature_stream = self._flow_stream = self._task_stream = one
            self._copy_in_stream = self._copy_out_stream = one if device.copies else None
        self._decode_stream = device.host_stream("decode")
        self._streams.append(self._decode_stream)

    @property
    def is_full(self) -> bool:
        """Whether a result must be collected before another frame is submitted."""
        return self.in_flight == self.depth

    @property
    def in_flight(self) -> int:
        """Number of frames submitted and not collected."""
        return self._submitted - self._collected

    @property
    def is_next_done(self) -> bool:
        """Whether ``collect`` would return without waiting."""
        return bool(self.in_flight) and self._oldest.done.is_done

    @property
    def _oldest(self) -> Slot:
        return self._slots[self._collected % self.depth]

    def submit(self, frame: Frame, *, is_key: bool) -> None:
        """Start a frame; returns when its image is read, without waiting for the result.

        Args:
            frame: with a checked image.
            is_key: whether it becomes the key frame, so that its features are computed.

        Raises:
            PipelineError: when ``is_full``, no key frame was submitted before, or a stage failed.
        """
        self._raise_failure()
        if self._trace is not None and not self._origins:
            self._mark_origins()
        if self.is_full:
            raise PipelineError(f"{self.depth} frames are in flight; collect a result first.")
        if not is_key and self._key is None:
            raise PipelineError("the first frame has no key frame before it; submit it as one.")
        slot = self._slots[self._submitted % self.depth]
        slot.start(frame)
        key = self._key
        if is_key:
            self._key = None  # interrupted, it may be half overwritten
            key = self._extract(slot)
        assert key is not None
        slot.key_index = key.index
        self._answer(slot, key)
        if is_key:
            self._key = key
            self._extracted += 1
        self._submitted += 1  # last: an interrupted call leaves no trace

    def collect(self) -> Result:
        """Wait for the oldest frame in flight and return its result.

        Raises:
            PipelineError: when nothing is in flight, or a stage failed.
        """
        if not self.in_flight:
            raise PipelineError("no frame is in flight; submit one first.")
        slot = self._oldest
        slot.done.synchronize()
        self._raise_failure()
        try:
            stage_ms = slot.stage_times()
        except EngineError as error:  # a GPU that failed at a later frame answers no query
            raise PipelineError(f"a stage failed: {error}") from error
        result = Result(
            frame=slot.frame,
            labels=slot.answer.labels,
            key_index=slot.key_index,
            latency_s=slot.ready_s - slot.submitted_s,
            stage_ms=stage_ms,
            age_s=slot.ready_s - slot.frame.stamp_s if slot.frame.live else None,
            confidence=slot.answer.confidence,
            detections=slot.answer.detections,
            values=slot.answer.values,
            task=slot.answer.task,
        )
        if self._trace is not None and self._origins:
            for span in slot.spans(self._origins, self._trace_begin_s):
                self._trace.add(span)
        self._collected += 1
        return result

    def drop_all(self) -> None:
        """Wait for the frames in flight and drop them; a failed stage is not reported."""
        # The streams, not the frames: an interrupted submit is known to them alone.
        for stream, end in self._ends:
            with suppress(PipelineError, EngineError):  # a GPU that failed runs nothing any more
                stream.record(end)
                end.synchronize()
        self._collected = self._submitted

    def forget_key(self) -> None:
        """Make the next frame a key frame, for a new source or after a gap."""
        self._key = None

    @property
    def key_index(self) -> int | None:
        """Number of the current key frame, None when there is none."""
        return None if self._key is None else self._key.index

    @property
    def key_stamp_s(self) -> float:
        """Capture time of the key frame; NaN without one."""
        return math.nan if self._key is None else self._key.stamp_s

    @property
    def is_feature_idle(self) -> bool:
        """Whether the features of the latest key frame are computed."""
        return self._key is None or self._key.ready.is_done

    def abandon(self) -> None:
        """Skip work that has not begun; waiting callers get an error. For any thread."""
        for stream in self._streams:
            stream.abandon()

    def close(self) -> None:
        """Finish the frames in flight and end all threads. Closing twice is allowed."""
        for stream in self._streams:
            stream.close()

    def _mark_origins(self) -> None:
        """Record when the trace begins on each clock of events."""
        self._trace_begin_s = time.perf_counter()
        origins: dict[type[Event], Origin] = {}
        for stream in (self._task_stream, self._decode_stream):
            event, before_s = stream.event(), time.perf_counter()
            if type(event) not in origins:
                stream.record(event)
                event.synchronize()
                middle_s = (before_s + time.perf_counter()) / 2
                origins[type(event)] = Origin(event, middle_s)
        self._origins = origins  # all at once, or none if interrupted

    def _raise_failure(self) -> None:
        for stream in self._streams:
            stream.raise_failure()

    def _extract(self, slot: Slot) -> KeyBuffers:
        """Line 8: compute the features of a new key frame."""
        key = self._keys[self._extracted % self.depth]
        key.index, key.stamp_s = slot.frame.index, slot.frame.stamp_s
        stream = self._feature_stream
        # The flow network waits for its own frame, which is copied after this one.
        self._take(slot, key.half, key.frame, reader=stream)
        with slot.stage("feature", stream):
            self._subnets.feature.enqueue({"frame": key.frame}, {"features": key.features}, stream)
        stream.record(key.ready)
        return key

    def _answer(self, slot: Slot, key: KeyBuffers) -> None:
        """Lines 9 and 11-12: compute the result of a frame from a key frame's features."""
        self._task_stream.wait(key.ready)
        if key.index == slot.frame.index:
            scored = self._score(slot, key.features)
        else:
            scored = self._propagate(slot, key)
        if isinstance(slot.frame.image, np.ndarray) or not isinstance(self._decoder, DeviceDecoder):
            self._decode_on_host(slot, scored)
        else:
            self._decode_on_device(slot, self._decoder)

    def _propagate(self, slot: Slot, key: KeyBuffers) -> Event:
        """Lines 11 and 12: estimate flow and scale, warp the key frame's features, score them."""
        flow, task = self._flow_stream, self._task_stream
        self._take(slot, slot.half, reader=flow)
        with slot.stage("flow", flow) as moved:
            self._subnets.flow.enqueue(
                {"key_half": key.half, "frame_half": slot.half},
                {"flow": slot.flow, "scale": slot.scale},
                flow,
            )
        task.wait(moved.end)
        if self._subnets.propagate is not None:
            inputs = {"features": key.features, "flow": slot.flow, "scale": slot.scale}
            with slot.stage("propagate", task) as scored:
                self._subnets.propagate.enqueue(inputs, slot.outputs, task)
            return scored.end
        assert slot.features is not None
        with slot.stage("warp", task):
            self._device.warp(
                key.features, slot.flow, slot.scale, slot.features, task, self._subnets.levels
            )
        return self._score(slot, slot.features)

    def _score(self, slot: Slot, features: Buffer) -> Event:
        stream = self._task_stream
        with slot.stage("task", stream) as span:
            self._subnets.task.enqueue({"features": features}, slot.outputs, stream)
        return span.end

    def _take(
        self, slot: Slot, half: Buffer, full: Buffer | None = None, *, reader: Stream
    ) -> None:
        """Copy the image, at the networks' sizes, to their inputs before ``reader`` continues."""
        image, stream = slot.frame.image, self._copy_in_stream
        buffers = [half] if full is None else [full, half]
        if isinstance(image, np.ndarray):
            with slot.resizing():
                self._resizer.half(image, half.array)
                if full is not None:
                    self._resizer.full(image, full.array)
            if stream is None:
                return
            with slot.stage("copy in", stream) as taken:
                for buffer in buffers:
                    self._device.copy_in(buffer, stream)
        else:
            assert stream is not None
            with slot.stage("resize", stream) as taken:
                for buffer in buffers:
                    cast(ImageDevice, self._device).resize(image, buffer, stream)
        reader.wait(taken.end)

    def _decode_on_host(self, slot: Slot, scored: Event) -> None:
        if self._copy_out_stream is not None:
            self._copy_out_stream.wait(scored)
            with slot.stage("copy out", self._copy_out_stream) as copied:
                for buffer in slot.outputs.values():
                    self._device.copy_out(buffer, self._copy_out_stream)
            scored = copied.end
        decode = self._decode_stream
        decode.wait(scored)
        with slot.stage("decode", decode) as decoded:
            decode.enqueue(partial(_decode, self._decoder, slot))
        slot.done = decoded.end

    def _decode_on_device(self, slot: Slot, decoder: DeviceDecoder) -> None:
        """Decode the result of an image that is on the device there."""
        size = slot.frame.image.shape[:2]
        device, stream = cast(ImageDevice, self._device), self._task_stream
        with slot.stage("decode", stream) as decoded:
            slot.answer = decoder.decode_on_device(device, slot.outputs, size, stream)
        self._decode_stream.wait(decoded.end)
        self._decode_stream.enqueue(slot.mark_ready)
        slot.done = self._decode_stream.event()
        self._decode_stream.record(slot.done)


def _decode(decoder: Decoder, slot: Slot) -> None:
    height, width = slot.frame.image.shape[:2]
    outputs = {name: buffer.array for name, buffer in slot.outputs.items()}
    slot.answer = decoder.decode(outputs, (height, width))
    slot.mark_ready()
