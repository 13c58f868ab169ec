"""The stages of Algorithm 1, enqueued on their streams; dependences are ordered by events."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import cast

import numpy as np

from dff_edge.frames import Frame
from dff_edge.runtime.devices.base import Buffer, Device, Event, ImageDevice, Stream
from dff_edge.runtime.engines.subnets import Subnets
from dff_edge.runtime.kernels.resize import FrameResizer
from dff_edge.runtime.slots import KeyBuffers, Slot, Stages
from dff_edge.runtime.staleness import (
    Staleness,
    measure_motion,
    small_picture,
    sum_of_scores,
)
from dff_edge.runtime.streams import Streams
from dff_edge.runtime.tasks.decoders import Decoder, DeviceDecoder


class Enqueuer:
    """Enqueues the stages of a frame. Nothing is waited for; the frame's image is read at once.

    Args:
        device: of the buffers.
        subnets: engines whose tensors fit each other.
        decoder: makes answers of the outputs of the task network.
        streams: where the stages run.
        staleness: predicts how stale each answer is; None where the bundle has no model of it.
    """

    def __init__(
        self,
        device: Device,
        subnets: Subnets,
        decoder: Decoder,
        streams: Streams,
        staleness: Staleness | None = None,
    ) -> None:
        frame_shape = subnets.feature.inputs["frame"].shape
        self._resizer = FrameResizer((frame_shape[1], frame_shape[2]))
        self._device = device
        self._subnets = subnets
        self._decoder = decoder
        self._streams = streams
        self._staleness = staleness
        self._nothing = _nothing(device, subnets, streams.task)

    def extract(self, frame: Frame, key: KeyBuffers, stages: Stages) -> None:
        """Line 8: compute the features of a new key frame.

        Args:
            frame: the key frame.
            key: its buffers, which have taken it.
            stages: notes the stages.
        """
        stream = self._streams.feature
        # The flow network waits for its own frame, which is copied after this one.
        self._take(stages, frame, key.half, key.frame, reader=stream)
        with stages.stage("feature", stream):
            self._subnets.feature.enqueue({"frame": key.frame}, {"features": key.features}, stream)
        stream.record(key.ready)

    def answer(self, slot: Slot, key: KeyBuffers) -> None:
        """Lines 9 and 11-12: compute the result of a frame from a key frame's features."""
        slot.key_index, slot.key_stamp_s = key.index, key.stamp_s
        self._streams.task.wait(key.ready)
        if key.index == slot.frame.index:
            scored = self._score(slot, key.features, self._nothing)
        else:
            scored = self._propagate(slot, key)
        if isinstance(slot.frame.image, np.ndarray) or not isinstance(self._decoder, DeviceDecoder):
            self._decode_on_host(slot, key, scored)
        else:
            self._decode_on_device(slot, key, self._decoder)

    def _propagate(self, slot: Slot, key: KeyBuffers) -> Event:
        """Lines 11 and 12: estimate flow and scale, warp the key frame's features, score them."""
        flow, task = self._streams.flow, self._streams.task
        self._take(slot, slot.frame, slot.half, reader=flow)
        with slot.stage("flow", flow) as moved:
            self._subnets.flow.enqueue(
                {"key_half": key.half, "frame_half": slot.half}, slot.moved, flow
            )
        if self._staleness is not None:
            self._measure(slot, key, moved.end)
        task.wait(moved.end)
        if self._subnets.propagate is not None:
            inputs = {"features": key.features, **slot.moved}
            with slot.stage("propagate", task) as scored:
                self._subnets.propagate.enqueue(inputs, slot.outputs, task)
            return scored.end
        assert slot.features is not None
        with slot.stage("warp", task):
            self._device.warp(
                key.features,
                slot.moved["flow"],
                slot.moved["scale"],
                slot.features,
                task,
                self._subnets.levels,
            )
        return self._score(slot, slot.features, slot.moved)

    def _measure(self, slot: Slot, key: KeyBuffers, moved: Event) -> None:
        """Measure how the frame has moved, on the host, beside warp and task network."""
        copy_out, decode = self._streams.copy_out, self._streams.decode
        if copy_out is not None:
            copy_out.wait(moved)
            with slot.stage("copy flow", copy_out) as copied:
                self._device.copy_out(slot.moved["flow"], copy_out)
            moved = copied.end
        decode.wait(moved)
        decode.enqueue(partial(_measure, slot, key, decode.name))

    def _score(self, slot: Slot, features: Buffer, added: Mapping[str, Buffer]) -> Event:
        """Run the task network on features.

        Args:
            slot: of the frame.
            features: its features.
            added: has the correction, where the task network reads one.
        """
        stream, inputs = self._streams.task, {"features": features}
        if "correction" in self._subnets.task.inputs:
            inputs["correction"] = added["correction"]
        with slot.stage("task", stream) as span:
            self._subnets.task.enqueue(inputs, slot.outputs, stream)
        return span.end

    def _take(
        self,
        stages: Stages,
        frame: Frame,
        half: Buffer,
        full: Buffer | None = None,
        *,
        reader: Stream,
    ) -> None:
        """Copy the image, at the networks' sizes, to their inputs before ``reader`` continues."""
        image, stream = frame.image, self._streams.copy_in
        buffers = [half] if full is None else [full, half]
        if isinstance(image, np.ndarray):
            with stages.on_host("resize", "caller"):
                self._resizer.half(image, half.array)
                if full is not None:
                    self._resizer.full(image, full.array)
            if stream is None:
                return
            with stages.stage("copy in", stream) as taken:
                for buffer in buffers:
                    self._device.copy_in(buffer, stream)
        else:
            assert stream is not None
            with stages.stage("resize", stream) as taken:
                for buffer in buffers:
                    cast(ImageDevice, self._device).resize(image, buffer, stream)
                if self._staleness is not None:  # it looks at the half-size frames
                    self._device.copy_out(half, stream)
        reader.wait(taken.end)

    def _decode_on_host(self, slot: Slot, key: KeyBuffers, scored: Event) -> None:
        copy_out = self._streams.copy_out
        if copy_out is not None:
            copy_out.wait(scored)
            with slot.stage("copy out", copy_out) as copied:
                for buffer in slot.outputs.values():
                    self._device.copy_out(buffer, copy_out)
            scored = copied.end
        decode = self._streams.decode
        decode.wait(scored)
        with slot.stage("decode", decode) as decoded:
            decode.enqueue(partial(_decode, self._decoder, slot, key, self._staleness))
        slot.done = decoded.end

    def _decode_on_device(self, slot: Slot, key: KeyBuffers, decoder: DeviceDecoder) -> None:
        """Decode the result of an image that is on the device there."""
        size = slot.frame.image.shape[:2]
        device, stream = cast(ImageDevice, self._device), self._streams.task
        with slot.stage("decode", stream) as decoded:
            slot.answer = decoder.decode_on_device(device, slot.outputs, size, stream)
        self._streams.decode.wait(decoded.end)
        self._streams.decode.enqueue(partial(_finish, slot, key, self._staleness))
        slot.done = self._streams.decode.event()
        self._streams.decode.record(slot.done)


def _measure(slot: Slot, key: KeyBuffers, thread: str) -> None:
    # Timed here: events of a stage would be half of what it costs a small network's frame.
    with slot.on_host("staleness", thread):
        flow = slot.moved["flow"].array
        cells = flow.shape[1:3]
        if key.small is None:  # for the first of its frames; all of them are measured here
            key.small = small_picture(key.half.array, cells)
        frame = small_picture(slot.half.array, cells)
        slot.motion = measure_motion(slot.frame.index - key.index, flow, key.small, frame)


def _nothing(device: Device, subnets: Subnets, stream: Stream) -> dict[str, Buffer]:
    """Return the correction of key frames, a buffer of zeros; empty where none is read."""
    spec = subnets.task.inputs.get("correction")
    if spec is None:
        return {}
    zeros = device.buffer(spec, host=True)
    zeros.array.fill(0)
    device.copy_in(zeros, stream)
    return {"correction": zeros}


def _decode(decoder: Decoder, slot: Slot, key: KeyBuffers, staleness: Staleness | None) -> None:
    height, width = slot.frame.image.shape[:2]
    outputs = {name: buffer.array for name, buffer in slot.outputs.items()}
    slot.answer = decoder.decode(outputs, (height, width))
    _finish(slot, key, staleness)


def _finish(slot: Slot, key: KeyBuffers, staleness: Staleness | None) -> None:
    if staleness is not None:
        key.score = max(key.score, sum_of_scores(slot.answer))
        slot.expected_disagreement = (
            0.0 if slot.motion is None else staleness.expect(slot.motion, slot.answer, key.score)
        )
    slot.mark_ready()
