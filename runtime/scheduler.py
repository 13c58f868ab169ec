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

A frame's buffers are a ``Slot``, a key frame's a ``KeyBuffers``; all are allocated once.

In order, a key frame is answered from its own features. In the background it is answered from the
older key frame, and its features are *pending*: the frames after it use the older ones until these
are taken up (``keys``). The feature stream is then one of its own and has a lower priority than the
others. At most one key frame is pending. A frame that has no older key frame waits for its own.

Nothing waits for a key frame's buffers. In order, ``depth`` sets suffice: when a set is used again,
``depth`` key frames were submitted since, so the frames that used it have been collected. In the
background, frames in flight may use as many sets as there are frames, and the pending key frame has
one more. With ``depth + 1``, when the set of key frame e is used again by the frame g, key frame
e + 1 came at least ``depth`` frames before g and was collected. That frame was answered by e, or,
if e was given up at a cut, by e + 1, computed after e on the same stream: e is computed. And every
frame that used e came before key frame e + 2 was begun, and was collected too.

Source: Zhu et al., CVPR 2017, arXiv:1611.07715, Algorithm 1.
"""

from __future__ import annotations

import math
import time

from dff_edge.errors import EngineError, PipelineError
from dff_edge.frames import Frame, Result
from dff_edge.lifetime import bind
from dff_edge.runtime.devices.base import (
    Device,
    Event,
    Stream,
)
from dff_edge.runtime.engines.subnets import Subnets
from dff_edge.runtime.enqueuer import Enqueuer
from dff_edge.runtime.keys import IN_ORDER, KeyMode
from dff_edge.runtime.slots import KeyBuffers, Origin, Slot
from dff_edge.runtime.staleness import Staleness
from dff_edge.runtime.streams import Streams
from dff_edge.runtime.tasks.decoders import Decoder
from dff_edge.runtime.trace import Trace

_READINGS = 5  # of a clock, of which the quickest counts: a reading waits for other threads


class Scheduler:
    """Runs frames through the subnets and returns results in order.

    Not thread-safe: one thread submits and collects. Calls are atomic when interrupted (Ctrl-C, no
    memory): the frame was not accepted, the result not returned.

    Args:
        device: where buffers and streams live; closed by its owner.
        subnets: engines whose tensors fit each other; closed by their owner.
        decoder: makes answers of the outputs of the task network; nobody else uses it meanwhile.
        depth: frames in flight at most.
        overlap: whether the networks have a stream each, or one for all of them; the feature
            network has its own in any case where key frames are computed in the background.
        keys: when the features of a new key frame are taken up.
        trace: takes the span of every stage of every result.
        staleness: predicts how stale each answer is; None where the bundle has no model of it.
    """

    def __init__(
        self,
        device: Device,
        subnets: Subnets,
        decoder: Decoder,
        *,
        depth: int,
        overlap: bool = True,
        keys: KeyMode = IN_ORDER,
        trace: Trace | None = None,
        staleness: Staleness | None = None,
    ) -> None:
        if depth < 1:
            raise PipelineError(f"depth is {depth}, expected at least 1 frame in flight.")
        self.depth = depth
        self.overlap = overlap
        self.keys = keys
        self.staleness = staleness
        self._trace = trace
        self._origins: dict[type[Event], Origin] = {}
        self._trace_begin_s = 0.0
        self._key: KeyBuffers | None = None
        self._pending: KeyBuffers | None = None
        self._taken_up: KeyBuffers | None = None  # and no frame has used it yet
        self._latest_lag = 0
        self._streams = Streams(device, overlap=overlap, keys=keys)
        try:
            self._enqueuer = Enqueuer(device, subnets, decoder, self._streams, staleness)
            reads_flow = staleness is not None
            self._slots = [Slot(device, subnets, reads_flow=reads_flow) for _ in range(depth)]
            sets = depth if keys.is_in_order else depth + 1
            self._keys = [KeyBuffers(device, subnets, self._streams.feature) for _ in range(sets)]
        except BaseException:  # leaves no thread behind
            self.close()
            raise
        # Number of frames and key frames so far, which selects the slot.
        self._submitted = self._collected = self._extracted = 0
        bind(self)

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

    def take_up(self, index: int) -> None:
        """Take up the features of a pending key frame if they are due for a frame.

        ``submit`` does it too; whoever decides on a key frame does it before.

        Args:
            index: number of the frame that is submitted next.

        Raises:
            PipelineError: when a stage failed.
        """
        pending, lag = self._pending, self.keys.lag
        if pending is None:
            return
        if pending.is_ready if lag is None else index - pending.index >= lag:
            self._taken_up = self._key = pending
            self._pending = None
            self._latest_lag = index - pending.index

    def submit(self, frame: Frame, *, is_key: bool, is_cut: bool = False) -> None:
        """Start a frame; returns when its image is read, without waiting for the result.

        Args:
            frame: with a checked image.
            is_key: whether its features are computed and it becomes the key frame, at once or,
                unless ``keys`` is in order, later.
            is_cut: whether it has nothing to do with the frames before, so that no older features
                answer it or a later frame; it must be a key frame.

        Raises:
            PipelineError: when ``is_full``, no key frame was submitted before, another one is
                pending, or a stage failed.
        """
        self.take_up(frame.index)
        self._streams.raise_failure()  # later: features that are done may be those that failed
        if self._trace is not None and not self._origins:
            self._mark_origins()
        if self.is_full:
            raise PipelineError(f"{self.depth} frames are in flight; collect a result first.")
        if is_cut:
            self.forget_key()
        if not is_key and self._key is None:
            raise PipelineError("the first frame has no key frame before it; submit it as one.")
        if is_key and self._pending is not None:
            raise PipelineError(
                f"key frame {self._pending.index} is pending; frame {frame.index} can be none."
            )
        slot = self._slots[self._submitted % self.depth]
        slot.start(frame)
        older = self._key
        if is_key and (older is None or self.keys.is_in_order):
            self._key = None  # interrupted, it may be half overwritten
            key = self._next_key(frame)
            self._enqueuer.extract(frame, key, slot)
            self._enqueuer.answer(slot, key)
            self._extracted += 1  # first: interrupted here, buffers are left out, not used twice
            self._key = key
        else:
            assert older is not None
            slot.first_use = self._taken_up
            self._enqueuer.answer(slot, older)
            if is_key:  # after its answer, which is not to wait for its resizing
                pending = self._next_key(frame)
                self._enqueuer.extract(frame, pending, pending)
                self._extracted += 1
                self._pending = pending
            self._taken_up = None
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
        self._streams.raise_failure()
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
            key_age_s=slot.frame.stamp_s - slot.key_stamp_s,
            expected_disagreement=slot.expected_disagreement,
        )
        if self._trace is not None and self._origins:
            for span in slot.spans(self._origins, self._trace_begin_s):
                self._trace.add(span)
        self._collected += 1
        return result

    def drop_all(self) -> None:
        """Wait for the frames in flight and drop them; a failed stage is not reported."""
        # The streams, not the frames: an interrupted submit is known to them alone.
        self._streams.drain()
        self._collected = self._submitted

    def forget_key(self) -> None:
        """Have the next frame be a key frame, for a new source or after a gap.

        The features of a pending one are not taken up any more.
        """
        self._key = self._pending = self._taken_up = None

    @property
    def key_index(self) -> int | None:
        """Number of the current key frame, None when there is none."""
        return None if self._key is None else self._key.index

    @property
    def key_stamp_s(self) -> float:
        """Capture time of the key frame; NaN without one."""
        return math.nan if self._key is None else self._key.stamp_s

    @property
    def lag(self) -> int:
        """Frames by which features are used late: of the latest ones, where the machine says it."""
        return self._latest_lag if self.keys.lag is None else self.keys.lag

    @property
    def is_key_pending(self) -> bool:
        """Whether the features of a key frame are computed that was not taken up yet."""
        return self._pending is not None

    @property
    def is_feature_idle(self) -> bool:
        """Whether the features of the latest key frame are computed; after a lag, whether it is up.

        Raises:
            PipelineError: when a stage failed.
        """
        if self._pending is not None or self._key is None:
            return self._pending is None
        return bool(self.keys.lag) or self._key.is_ready

    @property
    def is_feature_busy(self) -> bool:
        """Whether features of any key frame are being computed, or wait to be; for any thread.

        Those of one that was given up count too, for its network runs nevertheless.
        """
        return not all(key.is_ready for key in self._keys)

    def abandon(self) -> None:
        """Skip work that has not begun; waiting callers get an error. For any thread."""
        self._streams.abandon()

    def close(self) -> None:
        """Finish the frames in flight and end all threads. Closing twice is allowed."""
        self._streams.close()

    def _mark_origins(self) -> None:
        """Record when the trace begins on each clock of events."""
        self._trace_begin_s = time.perf_counter()
        origins = {
            clock: min((_origin(stream) for _ in range(_READINGS)), key=lambda reading: reading[0])[
                1
            ]
            for clock, stream in self._streams.clocks().items()
        }
        self._origins = origins  # all at once, or none if interrupted

    def _next_key(self, frame: Frame) -> KeyBuffers:
        """Return the buffers of a new key frame."""
        key = self._keys[self._extracted % len(self._keys)]
        key.start(frame)
        return key


def _origin(stream: Stream) -> tuple[float, Origin]:
    """Return the seconds that it took to read a stream's clock, and what it read."""
    event, before_s = stream.event(), time.perf_counter()
    stream.record(event)
    event.synchronize()
    after_s = time.perf_counter()
    return after_s - before_s, Origin(event, (before_s + after_s) / 2)
