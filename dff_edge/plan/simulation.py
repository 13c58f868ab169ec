"""Forecast of a live run: cameras at a rate, and pipelines with times drawn from measured ones.

The queue is that of ``dff-edge run`` on a live source. A camera keeps its newest frame, an older
one that was not read is dropped. Its pipeline answers one frame at a time.

In order, a key frame keeps the pipeline until its own features are there. In the background it is
answered from the older key frame; its features are computed beside that and taken up by the first
frame that is submitted when they are done.

Pipelines of several cameras share the networks (``Pipelines``). The feature network computes for
one at a time, and key frames that may be are put off until it is free (``KeyTurns``). The rest, the
short path, is taken to answer one at a time too, while in truth parts of it overlap.

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
from numpy.typing import ArrayLike, NDArray

from dff_edge.errors import ConfigError
from dff_edge.runtime.key_turns import KeyTurn, KeyTurns

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
        busy_share: part of the time that a pipeline, or the short path that all of them share, was
            at work: the busiest of them.
    """

    rate: float
    captured: int
    ages_s: NDArray[np.float64]
    shown: Counter[tuple[int, int]]
    key_frames: int
    busy_share: float

    @property
    def answered_share(self) -> float:
        """Part of the captured frames that was answered."""
        return len(self.ages_s) / self.captured

    @property
    def fps(self) -> float:
        """Answers per second and camera."""
        return self.rate * self.answered_share

    def age_s(self, percent: float) -> float:
        """Return a percentile of the ages of answers: an age that occurred."""
        return percentile(self.ages_s, percent)

    def distance(self, percent: float) -> float:
        """Return a percentile of the answered frames' distances from their key frames."""
        answered = {d: n for (d, held), n in self.shown.items() if not held}
        return percentile(np.repeat(list(answered), list(answered.values())), percent)

    @property
    def staleness(self) -> float:
        """Mean age in frames of the features that a captured frame is left with."""
        return sum(sum(old) * n for old, n in self.shown.items()) / self.captured


def percentile(values: ArrayLike, percent: float) -> float:
    """Return the least of the values that ``percent`` of them do not exceed.

    It is one that occurred. Where half of the answers take 10 ms and half 33, a median between
    both (as ``np.percentile`` interpolates) is the age of none.
    """
    return float(np.percentile(np.asarray(values), percent, method="inverted_cdf"))


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
    """Simulate cameras, each with a pipeline, over one set of networks.

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
    cameras = [_Camera(rate, frames, number / (streams * rate), run) for number in range(streams)]
    while (camera := min(cameras, key=lambda camera: camera.next_s)).next_s < math.inf:
        run.serve(camera)
    return Forecast(
        rate,
        sum(camera.captured for camera in cameras),
        np.array([age for camera in cameras for age in camera.ages_s], np.float64),
        sum((camera.shown for camera in cameras), Counter[tuple[int, int]]()),
        sum(camera.key_frames for camera in cameras),
        max(run.short_busy_share, *(camera.busy_share for camera in cameras)),
    )


class _Camera:
    """A camera and the state of its pipeline: frames are numbered from 0 as they are captured."""

    def __init__(self, rate: float, frames: int, offset_s: float, run: _Run) -> None:
        self._rate, self._frames, self._offset_s = rate, frames, offset_s
        self.read = -1  # the latest frame that was submitted
        self.free_s = 0.0  # when the pipeline accepts another frame
        self.next_s = offset_s  # when the next frame is submitted; infinite after the last
        self.key: int | None = None
        self.pending: int | None = None
        self.features_s = -math.inf  # when the features of the latest key frame are done
        self.turn: KeyTurn = run.turns.join(lambda: run.now_s < self.features_s)
        self.used: int | None = None
        self.key_frames = 0
        self.distance = 0  # of the latest answer
        self.begin: int | None = None  # the first frame that counts
        self.ages_s: list[float] = []
        self.busy_s = 0.0
        self.first_s = 0.0  # begin of the first frame that counts
        self.shown: Counter[tuple[int, int]] = Counter()

    def captured_s(self, frame: int) -> float:
        return self._offset_s + frame / self._rate

    def look(self) -> int:
        """Return the next frame to be submitted: the newest captured, or the one to come."""
        passed = math.floor((self.free_s - self._offset_s) * self._rate + 1e-9)
        return max(min(passed, self._frames - 1), self.read + 1)

    @property
    def captured(self) -> int:
        """Number of the frames that count."""
        assert self.begin is not None  # the last frame is answered, and is not the first
        return self._frames - self.begin

    def take_up(self, now_s: float) -> None:
        if self.pending is not None and self.features_s <= now_s:
            self.key, self.pending = self.pending, None

    def go_on(self, free_s: float) -> None:
        """Look for the next frame when the pipeline is free."""
        self.free_s = free_s
        frame = self.look()
        captured_s = self.captured_s(frame)
        self.next_s = max(captured_s, free_s) if frame < self._frames else math.inf

    @property
    def busy_share(self) -> float:
        """Part of the time that the pipeline was not free."""
        return self.busy_s / (self.free_s - self.first_s)

    def answer(self, frame: int, age_s: float, begin_s: float, free_s: float) -> None:
        """Note an answer from the current key frame, and the frames that kept the one before."""
        assert self.key is not None
        if self.read < 0:  # the first of all
            self.read = frame
            return
        if self.begin is None:
            self.begin, self.first_s = frame, begin_s
        else:
            for held in range(1, frame - self.read):
                self.shown[self.distance, held] += 1
        self.key_frames += self.key != self.used
        self.used = self.key
        self.distance = frame - self.key
        self.shown[self.distance, 0] += 1
        self.ages_s.append(age_s)
        self.busy_s += free_s - begin_s
        self.read = frame


class _Run:
    """The networks that the pipelines share, and the time.

    Attributes:
        now_s: when the frame that is served was submitted.
        turns: of the cameras at the feature network.
    """

    def __init__(self, times: Times, interval: int | None, *, background: bool, seed: int) -> None:
        random = np.random.default_rng(seed)
        self._interval, self._background = interval, background
        self._feature_free_s = self._short_free_s = -math.inf
        self.now_s = 0.0
        self._short_busy_s, self._short_first_s = 0.0, math.inf
        self.turns = KeyTurns(lambda: self.now_s)

        def drawn(name: str, values: Sequence[T]) -> Iterator[T]:
            return _Draws(name, values, random)

        self._pickup = drawn("pickup_s", times.pickup_s)
        self._key = drawn("key", times.key)
        self._other = drawn("other", times.other)
        # In order a camera answers beside a feature network only where that is another's.
        self._beside = drawn("beside", times.beside or times.begins or times.other)
        self._begins = drawn("begins", times.begins)
        self._feature = drawn("feature_s", times.feature_s)

    @property
    def short_busy_share(self) -> float:
        """Part of the time that the short path was at work, from its first frame on."""
        took_s = self._short_free_s - self._short_first_s
        return self._short_busy_s / took_s if took_s > 0 else 0.0

    def serve(self, camera: _Camera) -> None:
        """Answer the next frame of a camera."""
        frame = camera.look()
        captured_s = camera.captured_s(frame)
        begin_s = camera.free_s
        if captured_s >= begin_s:
            begin_s = captured_s + next(self._pickup)
        self.now_s = begin_s
        camera.take_up(begin_s)
        if camera.key is None:
            camera.turn.insist()
            start_s, service = self._waited_for(camera, frame, begin_s)
        elif not self._is_wanted(camera, frame):
            start_s, service = self._short(begin_s)
        elif self._background:
            start_s, service = self._short(begin_s, self._begins)
            # From its own begin where the network is free, else from when it is.
            self._feature_free_s = max(begin_s, self._feature_free_s) + next(self._feature)
            camera.pending, camera.features_s = frame, self._feature_free_s
        else:
            start_s, service = self._waited_for(camera, frame, begin_s)
        camera.turn.enqueued()
        free_s = start_s + service.busy_s
        camera.answer(frame, start_s + service.ready_s - captured_s, begin_s, free_s)
        camera.go_on(free_s)

    def _is_wanted(self, camera: _Camera, frame: int) -> bool:
        """Whether a frame becomes a key frame, as the pipeline asks its policy and its turn."""
        assert camera.key is not None
        is_due = self._interval is None or frame - camera.key >= self._interval
        if not is_due or camera.pending is not None:
            return False
        if self._interval == 1 and not self._background:  # none is to be propagated
            camera.turn.insist()
            return True
        return camera.turn.ask()

    def _short(
        self, begin_s: float, times: Iterator[Service] | None = None
    ) -> tuple[float, Service]:
        """Return when the short path answers a frame, and how long it takes."""
        start_s = max(begin_s, self._short_free_s)
        if times is None:
            times = self._beside if start_s < self._feature_free_s else self._other
        service = next(times)
        self._short_free_s = start_s + service.busy_s
        self._short_first_s = min(self._short_first_s, start_s)
        self._short_busy_s += service.busy_s
        return start_s, service

    def _waited_for(self, camera: _Camera, frame: int, begin_s: float) -> tuple[float, Service]:
        """Return the same of a frame that waits for its own features."""
        start_s = max(begin_s, self._feature_free_s)
        service = next(self._key)
        self._feature_free_s = camera.features_s = start_s + service.ready_s
        camera.key = frame
        return start_s, service


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
