"""Recordings played as if they were live."""

import threading
import time

import numpy as np
import pytest

from dff_edge.errors import SourceError
from dff_edge.frames import Frame
from dff_edge.runtime.sources import open_source, paced
from dff_edge.runtime.sources.base import PulledSource
from dff_edge.runtime.sources.paced import PacedSource

LONG_S = 30.0  # never reached when the code is right
SCENE = "synthetic://street?seed=3&height=32&width=64"


class Recording(PulledSource):
    """Plays the given numbers; an exception in place of one is raised."""

    def __init__(self, *items):
        super().__init__("recording")
        self.items = items
        self.is_released = False
        self._look_ahead()

    def _frames(self):
        for item in self.items:
            if isinstance(item, Exception):
                raise item
            if item is None:
                self._skip("smudged")
                continue
            yield Frame(np.full((4, 6, 3), item, np.uint8), item, item / 30)

    def _release(self):
        self.is_released = True


class Clock:
    """In place of the module `time` and of the wait for a frame's time: ``tick`` ends one."""

    def __init__(self):
        self.now_s = 0.0
        self.ticks = threading.Semaphore(0)

    def monotonic(self):
        return self.now_s

    def wait(self, duration_s):
        assert self.ticks.acquire(timeout=LONG_S)
        self.now_s += duration_s + 1e-9  # rounding never leaves a rest to wait for

    def tick(self, times=1):
        self.ticks.release(times)

    set = tick


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(paced, "time", clock)
    monkeypatch.setattr(paced, "Signal", lambda: clock)
    return clock


def test_whoever_keeps_up_gets_all_frames_at_their_time(clock):
    with open_source(f"{SCENE}&frames=7&rate=25") as source:
        assert (source.live, source.fps, source.length, source.size) == (True, 25, 7, (32, 64))
        frames = [source.read(LONG_S)]
        for _ in range(6):
            clock.tick()
            frames.append(source.read(LONG_S))

    assert [frame.index for frame in frames] == list(range(7))
    assert all(frame.live and frame.segment == 0 for frame in frames)
    assert [frame.stamp_s for frame in frames] == pytest.approx([i / 25 for i in range(7)])
    assert (source.counts.read, source.counts.dropped) == (7, 0)


def test_stamps_are_of_the_clock_of_this_machine():
    before_s = time.monotonic()
    with open_source(f"{SCENE}&frames=2&rate=1000") as source:
        stamp_s = next(source).stamp_s

    assert before_s < stamp_s <= time.monotonic()


def test_time_does_not_wait_for_whoever_is_slow(clock):
    with open_source(f"{SCENE}&frames=50&rate=200") as source:
        first = next(source)
        clock.tick(49)
        source._thread.join(LONG_S)  # all is played
        assert source.state == "live"  # one frame is left
        rest = list(source)

    assert (first.index, [frame.index for frame in rest]) == (0, [49])
    assert (source.counts.read, source.counts.dropped) == (2, 48)
    assert rest[0].stamp_s == pytest.approx(49 / 200)


def test_it_begins_with_the_first_question(clock):
    with open_source(f"{SCENE}&frames=3&rate=20") as source:
        time.sleep(0.05)  # it could begin, if it would
        clock.now_s = 5.0
        first = next(source)

    assert (first.index, first.stamp_s) == (0, 5.0)


def test_end_is_told_from_a_pause(clock):
    with open_source(f"{SCENE}&frames=2&rate=10") as source:
        assert source.read(LONG_S).index == 0
        assert source.read(0) is None
        assert source.state == "live"
        clock.tick()
        assert source.read(LONG_S).index == 1
        assert source.read(LONG_S) is None
        assert source.state == "closed"


def test_frames_that_cannot_be_read_keep_their_time_and_number(clock):
    with PacedSource(Recording(0, None, None, 3), rate=50) as source:
        first = next(source)
        clock.tick()
        (last,) = source

    assert (first.index, last.index) == (0, 3)
    assert last.stamp_s - first.stamp_s == pytest.approx(3 / 50)
    assert (source.counts.failed, source.counts.reasons) == (2, ["smudged"] * 2)


def test_frames_that_cannot_be_read_are_counted_at_the_end_too():
    with PacedSource(Recording(0, None, None), rate=50) as source:
        assert [frame.index for frame in source] == [0]
        assert (source.counts.failed, source.counts.reasons) == (2, ["smudged"] * 2)


def test_failure_of_the_recording_comes_after_its_last_frame():
    with PacedSource(Recording(0, SourceError("cut off")), rate=1000) as source:
        assert next(source).index == 0
        with pytest.raises(SourceError, match="cut off"):
            next(source)
        assert source.state == "closed"


def test_fault_in_decoding_is_no_normal_end():
    fault = ValueError("a fault")
    with PacedSource(Recording(0, fault), rate=1000) as source:
        assert next(source).index == 0
        for _ in range(2):
            with pytest.raises(SourceError, match="ValueError: a fault") as caught:
                next(source)
            assert caught.value.__cause__ is fault


def test_fault_in_closing_the_recording_is_told():
    recording = Recording(0)
    recording._release = lambda: 1 / 0
    with PacedSource(recording, rate=1000) as source:
        assert next(source).index == 0
        with pytest.raises(SourceError, match="ZeroDivisionError"):
            next(source)


def test_close_ends_thread_recording_and_wait():
    before = set(threading.enumerate())
    recording = Recording(0, 1, 2)
    source = PacedSource(recording, rate=0.01)
    rest = []
    consumer = threading.Thread(target=lambda: rest.extend(source))
    consumer.start()
    while not source.counts.read:
        time.sleep(0.001)

    source.close()
    source.close()
    consumer.join(LONG_S)

    assert set(threading.enumerate()) <= before
    assert recording.is_released
    assert [frame.index for frame in rest] == [0]


def test_unused_source_is_closed():
    recording = Recording(0)
    PacedSource(recording, rate=1).close()

    assert recording.is_released
