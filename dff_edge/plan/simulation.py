"""Forecast of a live run: cameras at a rate, and one pipeline with times drawn from measured ones.

The queue is that of ``dff-edge run`` on a live source. A camera keeps its newest frame, an older
one that was not read is dropped. The pipeline answers one frame at a time. Where several cameras
have a frame, the one that was served longest ago is next.

In order, a key frame keeps the pipeline until its own features are there. In the background it is
answered from the older key frame; its features are computed beside that and taken up by the first
frame that is submitted when they are done. One feature network serves all cameras in turn.

A run counts from the second answer of each camera on: the first frame waits for its own features,
and others are dropped meanwhile, which says how a run begins and not how it goes on.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from dff_edge.errors import ConfigError

T = TypeVar("T")
_DRAWN_AT_ONCE = 1024


class Service(NamedTuple):
    """Times of one frame in the pipeline, in seconds from the begin of ``submit``.

    Attributes:
        ready_s: until its result is ready.
        busy_s: until the pipeline accepts another frame.
    """

    ready_s: float
    busy_s: float


@dataclass
class Times:
    """Measured times of a pipeline, one value for each time it was measured.

    Attributes:
        pickup_s: from the capture of a frame that is waited for to the begin of ``submit``.
        key: frames that wait for their own features.
        other: frames answered from older features, while none are computed.
        beside: the same, while the features of a key frame are computed in the background; none
            where these never take longer than a frame.
        begins: key frames answered from older features, whose own begin to be computed.
        feature_s: from the begin of ``submit`` of such a frame until its features can be used.
    """

    pickup_s: list[float] = field(default_factory=list)
    key: list[Service] = field(default_factory=list)
    other: list[Service] = field(default_factory=list)
    beside: list[Service] = field(default_factory=list)
    begins: list[Service] = field(default_factory=list)
    feature_s: list[float] = field(default_factory=list)

    def extend(self, more: Times) -> None:
        """Add the values of another measurement of the same pipeline."""
        for name in ("pickup_s", "key", "other", "beside", "begins", "feature_s"):
            getattr(self, name).extend(getattr(more, name))


@dataclass(frozen=True)
class Forecast:
    """Outcome of a simulated run from its second answer on, of all cameras together.

    Attributes:
        rate: frames per second of each camera.
        captured: frames that the cameras gave.
        ages_s: float64 ``(n,)``, of the answered frames, from capture to result.
        shown: number of captured frames by (distance, held): the answer that a frame is left with
            comes from features ``distance`` frames older than the frame that was answered, and that
            is ``held`` frames older than this one; 0 for a frame that was answered itself.
        key_frames: number of key frames that answers came from.
    """

    rate: float
    captured: int
    ages_s: NDArray[np.float64]
    shown: Counter[tuple[int, int]]
    key_frames: int

    @property
    def answered_share(self) -> float:
        """Part of the captured frames that was answered."""
        return len(self.ages_s) / self.captured

    @property
    def fps(self) -> float:
        """Answers per second and camera."""
        return self.rate * self.answered_share

    def age_s(self, percent: float) -> float:
        """Return a percentile of the ages of answers; infinite without any."""
        return float(np.percentile(self.ages_s, percent)) if len(self.ages_s) else math.inf

    def distance(self, percent: float) -> float:
        """Return a percentile of the answered frames' distances from their key frames, as above."""
        answered = {d: n for (d, held), n in self.shown.items() if not held}
        if not answered:
            return math.inf
        return float(np.percentile(np.repeat(list(answered), list(answered.values())), percent))

    @property
    def staleness(self) -> float:
        """Mean age in frames of the features that a captured frame is left with."""
        return sum(sum(old) * n for old, n in self.shown.items()) / self.captured


def simulate(
    times: Times,
    interval: int | None,
    *,
    background: bool,
    rate: float,
    frames: int,
    streams: int = 1,
    seed: int = 0,
) -> Forecast:
    """Simulate cameras whose frames one pipeline answers.

    Args:
        times: of the pipeline.
        interval: key interval l in captured frames, as of the policy ``fixed:l``; None for
            ``idle``, a key frame as soon as the features of the one before are there.
        background: whether key frames are computed in the background.
        rate: frames per second of each camera.
        frames: that each camera gives, at least 2.
        streams: number of cameras; their captures are spread evenly over a frame's time.
        seed: of the draws.

    Raises:
        ConfigError: there are no cameras or frames, ``idle`` is in order, or a time that is needed
            was never measured.
    """
    if frames < 2 or streams < 1 or not 0 < rate < math.inf:
        raise ConfigError(
            f"{streams} cameras with {frames} frames at {rate} a second cannot be simulated, "
            "expected at least one with two frames, and a rate above 0."
        )
    if interval is None and not background:
        raise ConfigError("the policy 'idle' needs key frames in the background.")
    run = _Run(times, interval, background=background, seed=seed)
    cameras = [_Camera(rate, frames, number / (streams * rate)) for number in range(streams)]
    free_s = 0.0
    while (turn := _next(cameras, free_s)) is not None:
        camera, frame = turn
        begin_s = free_s
        if camera.captured_s(frame) >= free_s:
            begin_s = camera.captured_s(frame) + next(run.pickup)
        free_s = run.serve(camera, frame, begin_s)
    return Forecast(
        rate,
        sum(camera.finish() for camera in cameras),
        np.array([age for camera in cameras for age in camera.ages_s], np.float64),
        sum((camera.shown for camera in cameras), Counter[tuple[int, int]]()),
        sum(camera.key_frames for camera in cameras),
    )


class _Camera:
    """A camera and the state of its stream: frames are numbered from 0 as they are captured."""

    def __init__(self, rate: float, frames: int, offset_s: float) -> None:
        self._rate, self._frames, self._offset_s = rate, frames, offset_s
        self.read = -1  # the latest frame that was submitted
        self.served_s = -math.inf
        self.key: int | None = None
        self.pending: tuple[int, float] | None = None  # a key frame, and when its features are done
        self.used: int | None = None
        self.key_frames = 0
        self.distance = 0  # of the latest answer
        self.begin: int | None = None  # the first frame that counts
        self.ages_s: list[float] = []
        self.shown: Counter[tuple[int, int]] = Counter()

    def captured_s(self, frame: int) -> float:
        return self._offset_s + frame / self._rate

    def newest(self, now_s: float) -> int | None:
        """Return the newest frame that was captured and not read, None where there is none."""
        passed = math.floor((now_s - self._offset_s) * self._rate + 1e-9)
        newest = min(passed, self._frames - 1)
        return newest if newest > self.read else None

    def finish(self) -> int:
        """Return the number of frames that count; all but the first, where that took to the end."""
        if self.begin is None:
            self.begin = 1
            self.shown.update((0, held) for held in range(1, self._frames))
        return self._frames - self.begin

    def coming(self) -> int | None:
        """Return the next frame to be captured, None after the last."""
        return self.read + 1 if self.read + 1 < self._frames else None

    def take_up(self, now_s: float) -> None:
        if self.pending is not None and self.pending[1] <= now_s:
            self.key, self.pending = self.pending[0], None

    def answer(self, frame: int, age_s: float) -> None:
        """Note an answer from the current key frame, and the frames that kept the one before."""
        assert self.key is not None
        if self.read < 0:  # the first of all
            self.read = frame
            return
        if self.begin is None:
            self.begin = frame
        else:
            for held in range(1, frame - self.read):
                self.shown[self.distance, held] += 1
        self.key_frames += self.key != self.used
        self.used = self.key
        self.distance = frame - self.key
        self.shown[self.distance, 0] += 1
        self.ages_s.append(age_s)
        self.read = frame


class _Run:
    """The pipeline."""

    def __init__(self, times: Times, interval: int | None, *, background: bool, seed: int) -> None:
        random = np.random.default_rng(seed)
        self._interval, self._background = interval, background
        self._feature_free_s = -math.inf

        def drawn(name: str, values: Sequence[T]) -> Iterator[T]:
            return _Draws(name, values, random)

        self.pickup = drawn("pickup_s", times.pickup_s)
        self._key = drawn("key", times.key)
        self._other = drawn("other", times.other)
        self._beside = drawn("beside", times.beside or times.begins)
        self._begins = drawn("begins", times.begins)
        self._feature = drawn("feature_s", times.feature_s)

    def serve(self, camera: _Camera, frame: int, begin_s: float) -> float:
        """Answer a frame; return when the pipeline accepts another one."""
        camera.take_up(begin_s)
        if camera.key is None:
            camera.key, service = frame, next(self._key)
        elif not self._is_wanted(camera, frame):
            is_beside = begin_s < self._feature_free_s
            service = next(self._beside if is_beside else self._other)
        elif self._background:
            service = next(self._begins)
            # From its own begin where the network is free, else from when it is.
            self._feature_free_s = max(begin_s, self._feature_free_s) + next(self._feature)
            camera.pending = frame, self._feature_free_s
        else:
            camera.key, service = frame, next(self._key)
        camera.answer(frame, begin_s + service.ready_s - camera.captured_s(frame))
        camera.served_s = begin_s
        return begin_s + service.busy_s

    def _is_wanted(self, camera: _Camera, frame: int) -> bool:
        """Whether a frame becomes a key frame, as the pipeline asks its policy."""
        assert camera.key is not None
        is_due = self._interval is None or frame - camera.key >= self._interval
        return is_due and camera.pending is None


def _next(cameras: Sequence[_Camera], now_s: float) -> tuple[_Camera, int] | None:
    """Return the camera to be served next and its frame; None when all frames are through."""
    waiting = [(camera, camera.newest(now_s)) for camera in cameras]
    there = [(camera, frame) for camera, frame in waiting if frame is not None]
    if there:
        return min(there, key=lambda turn: turn[0].served_s)
    coming = [(camera, camera.coming()) for camera in cameras]
    later = [(camera, frame) for camera, frame in coming if frame is not None]
    return min(later, key=lambda turn: turn[0].captured_s(turn[1]), default=None)


class _Draws(Generic[T]):
    """Values at random, as often as each was measured."""

    def __init__(self, name: str, values: Sequence[T], random: np.random.Generator) -> None:
        self._name, self._values, self._random = name, values, random
        self._order: Iterator[int] = iter(())

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        if not self._values:
            raise ConfigError(
                f"no time of '{self._name}' was measured, and the run needs it; measure longer."
            )
        number = next(self._order, None)
        if number is None:
            self._order = iter(self._random.integers(len(self._values), size=_DRAWN_AT_ONCE))
            number = next(self._order)
        return self._values[number]
