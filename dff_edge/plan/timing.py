"""Times of a pipeline on this machine, measured as a camera would have them.

Frames come from a paced source, for a network that was idle for a while wakes up slower than one
that runs over and over, and each frame is timed by itself. In order, every fourth answered frame
is a key frame, which gives the times of both kinds for every key interval. In the background,
frames are answered first without any features being computed, then beside a feature network that is
never idle.
"""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from dff_edge.frames import Frame, Image, Result
from dff_edge.plan.candidates import Screened
from dff_edge.plan.simulation import Service, Times
from dff_edge.runtime.pipeline import Pipeline
from dff_edge.runtime.policy import FrameContext, KeyFramePolicy
from dff_edge.runtime.sources.memory import MemorySource
from dff_edge.runtime.sources.paced import PacedSource

MIN_RATE = 15.0  # a slower camera gives too few frames to time
_ANSWERED_INTERVAL = 4
_MIN_KEYS, _MIN_OTHERS = 3, 12
_SCREEN_SECONDS = 0.4
_MAX_TIMES_LONGER = 4  # of what was asked for, where a network is so slow
_WARM_UP_FRAMES = 3


class Answered(NamedTuple):
    """A frame of a live source that was answered.

    Attributes:
        result: of the pipeline.
        begin_s, submitted_s, end_s: ``time.monotonic()`` before and after ``submit``, and when the
            result was there and the pipeline free.
        was_waited_for: whether the pipeline was free before the frame was captured.
    """

    result: Result
    begin_s: float
    submitted_s: float
    end_s: float
    was_waited_for: bool

    @property
    def service(self) -> Service:
        """Its times in the pipeline."""
        assert self.result.age_s is not None
        ready_s = self.result.frame.stamp_s + self.result.age_s - self.begin_s
        return Service(ready_s, self.end_s - self.begin_s)


class _Script(KeyFramePolicy):
    """Key frames as the measurement wants them; says which it began.

    Attributes:
        begun: number of the latest frame that it made a key frame, None before.
    """

    def __init__(self, every: int | None) -> None:
        self._every = every
        self._asked = 0
        self.begun: int | None = None

    def is_key(self, context: FrameContext) -> bool:
        self._asked += 1
        is_due = self._every is not None and self._asked % self._every == 0
        if is_due:
            self.begun = context.frame.index
        return is_due


def answer_live(pipeline: Pipeline, source: Iterable[Frame]) -> Iterator[Answered]:
    """Yield the answers to the frames of a live source, as ``dff-edge run`` computes them.

    Args:
        pipeline: with one frame in flight; it begins anew.
        source: not closed here.
    """
    pipeline.reset()
    free_s = time.monotonic()
    for frame in source:
        begin_s = time.monotonic()
        pipeline.submit(frame)
        submitted_s = time.monotonic()
        result = pipeline.poll(block=True)
        assert result is not None  # the frame that was submitted
        end_s = time.monotonic()
        yield Answered(result, begin_s, submitted_s, end_s, frame.stamp_s > free_s)
        free_s = end_s


def warm_up(pipeline: Pipeline, images: Sequence[Image]) -> None:
    """Answer a few frames of each kind, for the first ones allocate."""
    pipeline.reset()
    policy, pipeline.policy = pipeline.policy, _Script(2)
    with MemorySource(images, _WARM_UP_FRAMES) as source:
        for frame in source:
            pipeline.submit(frame)
            pipeline.poll(block=True)
    pipeline.policy = policy
    pipeline.reset()


def screen(pipeline: Pipeline, images: Sequence[Image]) -> Screened:
    """Time key frames and others for a moment, without pauses; the policy is replaced meanwhile.

    Args:
        pipeline: of depth 1, key frames in order.
        images: frames of the camera.
    """
    warm_up(pipeline, images)
    policy, pipeline.policy = pipeline.policy, _Script(_ANSWERED_INTERVAL)
    key_s: list[float] = []
    other_s: list[float] = []
    time_left = _TimeLeft(_SCREEN_SECONDS)
    with without_advice(), MemorySource(images) as source:
        for frame in source:
            pipeline.submit(frame)
            result = pipeline.poll(block=True)
            assert result is not None
            (key_s if result.is_key else other_s).append(result.latency_s)
            if time_left.is_over(len(key_s) >= 2 and bool(other_s)):
                break
    pipeline.policy = policy
    return Screened(statistics.median(key_s), statistics.median(other_s or key_s))


def measure(pipeline: Pipeline, images: Sequence[Image], *, rate: float, seconds: float) -> Times:
    """Measure the times of a pipeline; its policy is replaced meanwhile.

    Takes about ``seconds``, longer where there are too few key frames by then.

    Args:
        pipeline: of depth 1, key frames in order or in the background.
        images: frames of the camera.
        rate: of the camera, frames per second; a slow one is played at ``MIN_RATE``.
        seconds: duration.

    Raises:
        PipelineError: when a stage fails.
    """
    policy = pipeline.policy
    times, rate = Times(), max(rate, MIN_RATE)
    try:
        with without_advice():
            warm_up(pipeline, images)
            if pipeline.keys.is_in_order:
                _measure_in_order(pipeline, images, rate, seconds, times)
            else:
                _measure_alone(pipeline, images, rate, seconds / 3, times)
                _measure_beside(pipeline, images, rate, seconds * 2 / 3, times)
    finally:
        pipeline.policy = policy
    return times


def _measure_in_order(
    pipeline: Pipeline, images: Sequence[Image], rate: float, seconds: float, times: Times
) -> None:
    pipeline.policy, time_left = _Script(_ANSWERED_INTERVAL), _TimeLeft(seconds)
    for answered in _played(pipeline, images, rate, times):
        (times.key if answered.result.is_key else times.other).append(answered.service)
        if time_left.is_over(len(times.key) >= _MIN_KEYS and len(times.other) >= _MIN_OTHERS):
            return


def _measure_alone(
    pipeline: Pipeline, images: Sequence[Image], rate: float, seconds: float, times: Times
) -> None:
    pipeline.policy, time_left = _Script(None), _TimeLeft(seconds)
    for answered in _played(pipeline, images, rate, times):
        (times.key if answered.result.is_key else times.other).append(answered.service)
        if time_left.is_over(len(times.other) >= _MIN_OTHERS):
            return


def _measure_beside(
    pipeline: Pipeline, images: Sequence[Image], rate: float, seconds: float, times: Times
) -> None:
    pipeline.policy, time_left = (script := _Script(1)), _TimeLeft(seconds)
    begun: Answered | None = None  # the frame whose features are computed
    before_s = 0.0  # begin of the frame before
    for answered in _played(pipeline, images, rate, times):
        result = answered.result
        if begun is not None and result.key_index == begun.result.frame.index:
            times.feature_s.append(_feature_s(begun, answered, before_s))
            begun = None
        if result.is_key:
            times.key.append(answered.service)
        elif script.begun == result.frame.index:
            times.begins.append(answered.service)
            begun = answered
        else:
            times.beside.append(answered.service)
        before_s = answered.begin_s
        answers = len(times.beside) + len(times.begins)
        if time_left.is_over(len(times.feature_s) >= _MIN_KEYS and answers >= _MIN_OTHERS):
            return


def _feature_s(begun: Answered, used: Answered, before_s: float) -> float:
    """Return how long the features of a key frame took, from the begin of its ``submit``.

    They were not there when the last frame before was submitted, and were when the first that uses
    them was; between the two counts their own stage, which does not see how late it was begun.
    """
    own_s = begun.submitted_s - begun.begin_s + used.result.stage_ms["feature"] / 1e3
    return min(max(own_s, before_s - begun.begin_s), used.begin_s - begun.begin_s)


def _played(
    pipeline: Pipeline, images: Sequence[Image], rate: float, times: Times
) -> Iterator[Answered]:
    with PacedSource(MemorySource(images), rate) as source:
        for answered in answer_live(pipeline, source):
            if answered.was_waited_for:
                times.pickup_s.append(answered.begin_s - answered.result.frame.stamp_s)
            yield answered


class _TimeLeft:
    """Seconds of a measurement that begins now."""

    def __init__(self, seconds: float) -> None:
        self._begin_s, self._seconds = time.monotonic(), seconds

    def is_over(self, is_enough: bool) -> bool:
        """Return whether to stop: in time where enough is measured, else some time later."""
        passed_s = time.monotonic() - self._begin_s
        return passed_s >= self._seconds * (1 if is_enough else _MAX_TIMES_LONGER)


@contextmanager
def without_advice() -> Iterator[None]:
    """Keep the runtime from advising on distances: the plan says them."""
    log = logging.getLogger("dff_edge.runtime")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)
