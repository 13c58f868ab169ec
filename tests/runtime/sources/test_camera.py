"""The loop around a camera, with cameras that the test operates by hand."""

import gc
import logging
import os
import queue
import random
import signal
import threading
import time

import numpy as np
import pytest

from dff_edge.runtime.errors import SourceError
from dff_edge.runtime.sources import camera as camera_module
from dff_edge.runtime.sources.camera import MAX_STUCK, CameraSource, Patience
from dff_edge.runtime.sources.capture import Shot

LONG_S = 30.0  # never reached when the code is right
CALM = Patience(gap_s=LONG_S, lost_s=LONG_S, connect_s=LONG_S, first_retry_s=0.001, join_s=LONG_S)


class FakeCapture:
    """Gives what the test puts in; ``read`` blocks until then."""

    fps = None
    size = None

    def __init__(self):
        self.inbox = queue.Queue()
        self.reads = threading.Semaphore(0)
        self.released_by = []

    def read(self):
        self.reads.release()  # the result of the read before has been taken care of
        item = self.inbox.get(timeout=LONG_S)
        if isinstance(item, Exception):
            raise item
        return item if isinstance(item, Shot | str) else Shot(item, time.monotonic())

    def release(self):
        self.released_by.append(threading.current_thread().name)

    def give(self, *items):
        """Hand over items and wait until the reader comes back for more after the last."""
        for item in items:
            assert self.reads.acquire(timeout=LONG_S)
            self.inbox.put(item)
        assert self.reads.acquire(timeout=LONG_S)
        self.reads.release()


class Cameras:
    """Connects to the captures that the test lays out, in order; an exception is a failure."""

    def __init__(self, *captures):
        self.waiting = list(captures)
        self.tries = 0

    def __call__(self):
        self.tries += 1
        item = self.waiting.pop(0) if self.waiting else SourceError("unplugged")
        if isinstance(item, Exception):
            raise item
        return item


def picture(number, shape=(4, 6, 3)):
    return np.full(shape, number, np.uint8)


def eventually(condition):
    end_s = time.monotonic() + LONG_S
    while not condition():
        assert time.monotonic() < end_s, "it never came true"
        time.sleep(0.001)
    return True


@pytest.fixture
def open_camera():
    opened = []

    def open_it(*captures, **options):
        cameras = Cameras(*captures)
        source = CameraSource(cameras, "fake", **{"patience": CALM, **options})
        assert source.read(0) is None  # frames count from here
        opened.append((source, captures))
        source.cameras = cameras
        return source

    yield open_it
    for source, captures in opened:
        source._is_closed = True
        for capture in captures:
            if isinstance(capture, FakeCapture):
                capture.inbox.put("the test is over")  # lets a waiting read end
        source.close()


def test_newest_frame_is_kept_and_the_others_are_counted(open_camera):
    capture = FakeCapture()
    camera = open_camera(capture)
    capture.give(picture(0))
    first = next(camera)
    capture.give(picture(1), picture(2), picture(3))

    newest = next(camera)

    assert (first.index, newest.index) == (0, 3)
    assert int(newest.image[0, 0, 0]) == 3
    assert (camera.counts.read, camera.counts.dropped, camera.counts.failed) == (2, 2, 0)
    assert (first.stretch, newest.stretch, camera.state) == (0, 0, "live")


def test_frames_before_the_first_is_asked_for_are_not_counted():
    capture = FakeCapture()
    camera = CameraSource(Cameras(capture), "fake", patience=CALM)
    capture.give(picture(1), "smudged", picture(2))
    assert camera.read(0) is None
    capture.give(picture(3))

    frame = next(camera)

    assert (frame.index, int(frame.image[0, 0, 0])) == (0, 3)
    assert (camera.counts.dropped, camera.counts.failed) == (0, 0)
    capture.inbox.put("over")
    camera.close()


def test_frames_are_live_and_have_the_stamp_of_the_capture(open_camera):
    capture = FakeCapture()
    camera = open_camera(capture)
    capture.give(Shot(picture(0), 12.5))

    frame = next(camera)

    assert (frame.stamp_s, frame.live, camera.live, camera.size) == (12.5, True, True, (4, 6))


def test_failed_reads_and_unusable_frames_are_counted_and_take_numbers(open_camera):
    capture = FakeCapture()
    camera = open_camera(capture)
    capture.give(picture(0), "smudged", picture(0, (4, 6, 2)), picture(3))

    frame = next(camera)

    assert frame.index == 3
    assert (camera.counts.failed, camera.counts.dropped) == (2, 1)
    assert "frame 1: smudged" in camera.counts.reasons[0]
    assert "frame 2: The frame has shape (4, 6, 2)" in camera.counts.reasons[1]


def test_grey_camera_gives_bgr(open_camera):
    capture = FakeCapture()
    camera = open_camera(capture)
    capture.give(picture(9, (4, 6)))

    assert next(camera).image.shape == (4, 6, 3)


def test_read_gives_up_after_its_time(open_camera):
    camera = open_camera(FakeCapture())
    start_s = time.monotonic()

    assert camera.read(0.05) is None
    assert 0.05 <= time.monotonic() - start_s < LONG_S


def test_first_connection_that_fails_is_an_error_at_once():
    with pytest.raises(SourceError, match="unplugged"):
        CameraSource(Cameras(), "fake")


@pytest.mark.parametrize(
    "second",
    [Shot(picture(1, (5, 6, 3)), 0.0), Shot(picture(1), 0.0, follows=False)],
    ids=["size changed", "camera's clock jumped"],
)
def test_gap_without_an_outage_begins_a_stretch(open_camera, second):
    capture = FakeCapture()
    camera = open_camera(capture)
    stretches = []
    for shot in (picture(0), picture(0), second, second._replace(follows=True)):
        capture.give(shot)
        stretches.append(next(camera).stretch)

    assert stretches == [0, 0, 1, 1]


def test_stretch_of_a_dropped_frame_is_that_of_the_next(open_camera):
    capture = FakeCapture()
    camera = open_camera(capture)
    capture.give(picture(0), Shot(picture(1), 0.0, follows=False), picture(2))

    assert next(camera).stretch == 1


def test_stall_is_seen_without_asking_and_begins_a_stretch(open_camera, caplog):
    capture = FakeCapture()
    camera = open_camera(capture, patience=Patience(gap_s=0.05, lost_s=4 * LONG_S))
    capture.give(picture(0))
    assert next(camera).stretch == 0

    eventually(lambda: camera.state == "stalled")
    capture.give(picture(1))

    frame = next(camera)
    assert (frame.index, frame.stretch, camera.counts.reconnects) == (1, 1, 0)
    assert "camera fake: stalled: no frame for 0.05 s" in caplog.text
    assert "camera fake: live: frames come again" in caplog.text
    eventually(lambda: camera.state == "stalled")  # it is watched anew


def test_slow_camera_is_not_stalled_between_its_frames():
    capture = FakeCapture()
    capture.fps = 0.01
    camera = CameraSource(Cameras(capture), "fake", patience=Patience(gap_s=0.01))
    capture.give(picture(0))
    time.sleep(0.1)

    assert camera.state == "live"
    capture.inbox.put("over")
    camera.close()


def test_lost_camera_comes_back_in_a_new_stretch(open_camera, caplog):
    first, second = FakeCapture(), FakeCapture()
    camera = open_camera(first, SourceError("still unplugged"), second)
    first.give(picture(0))
    before = next(camera)
    first.inbox.put(SourceError("USB gone"))
    eventually(lambda: camera.cameras.tries == 3)
    assert camera.state == "lost"
    second.give(picture(1))

    after = next(camera)

    assert after.index > before.index
    assert (before.stretch, after.stretch) == (0, 1)
    assert (camera.state, camera.counts.reconnects) == ("live", 1)
    assert len(first.released_by) == 1
    for line in ("lost: USB gone", "still lost: still unplugged", "live: back after"):
        assert f"camera fake: {line}" in caplog.text


def test_camera_is_waited_for_without_end_and_said_so_once(open_camera, caplog):
    capture, back = FakeCapture(), FakeCapture()
    camera = open_camera(
        capture,
        *[SourceError("unplugged")] * 60,
        back,
        patience=Patience(first_retry_s=1e-6, max_retry_s=1e-5, join_s=LONG_S),
    )
    capture.inbox.put(SourceError("unplugged"))
    eventually(lambda: not camera.cameras.waiting)
    back.give(picture(0))

    assert next(camera).index == 0
    assert caplog.text.count("unplugged") == 1


def test_pauses_double_up_to_a_bound_and_differ_by_chance(open_camera, monkeypatch):
    pauses = []

    def rest(source, until_s):
        pauses.append(until_s - time.monotonic())
        if len(pauses) == 7:
            source._is_closed = True

    monkeypatch.setattr(CameraSource, "_rest", rest)
    monkeypatch.setattr(camera_module.random, "uniform", lambda low, high: low)
    capture = FakeCapture()
    camera = open_camera(capture, patience=Patience())
    capture.inbox.put(SourceError("gone"))
    eventually(lambda: len(pauses) == 7)

    assert camera.patience == Patience(1.0, 5.0, 20.0, 0.2, 5.0, 12.0)  # as the docs say
    expected = [0.1, 0.2, 0.4, 0.8, 1.6, 2.5, 2.5]  # half of 0.2, 0.4, .. 5
    assert pauses == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize("retry_s", [0, 0.05])
def test_outage_that_lasts_too_long_is_an_error(open_camera, retry_s):
    capture = FakeCapture()
    camera = open_camera(capture, retry_s=retry_s)
    capture.give(picture(0))
    next(camera)
    capture.inbox.put(SourceError("USB gone"))

    for _ in range(2):
        with pytest.raises(SourceError, match=f"'fake' was lost after 1 frames.*within {retry_s}"):
            next(camera)

    assert camera.state == "closed"
    if not retry_s:
        assert camera.cameras.tries == 1
    camera.close()
    assert list(camera) == []


def test_bounded_outage_ends_during_a_connect_that_hangs(open_camera):
    capture, hangs = FakeCapture(), threading.Event()
    camera = open_camera(capture, retry_s=0.05, patience=Patience(first_retry_s=0.001, join_s=0.01))
    camera._connect = lambda: hangs.wait(LONG_S) or FakeCapture()
    capture.inbox.put(SourceError("USB gone"))

    with pytest.raises(SourceError, match="did not come back"):
        next(camera)

    hangs.set()


def test_hanging_reads_are_left_behind_and_bounded(open_camera, caplog):
    captures = [FakeCapture() for _ in range(MAX_STUCK + 2)]
    camera = open_camera(
        *captures,
        patience=Patience(
            gap_s=0.01, lost_s=0.02, connect_s=0.02, first_retry_s=0.001, max_retry_s=0.01
        ),
    )
    eventually(lambda: camera.stuck == MAX_STUCK)
    time.sleep(0.1)
    assert camera.cameras.tries == MAX_STUCK  # no further one is tried

    captures[0].inbox.put(picture(7))  # the first read returns: too late to be a frame
    eventually(lambda: camera.cameras.tries == MAX_STUCK + 1)

    assert captures[0].released_by == ["dff-edge fake reader"]
    assert camera.counts.read == camera.counts.dropped == 0
    assert camera.read(0) is None
    assert "left behind (3 of at most 3)" in caplog.text


def test_close_joins_the_threads_and_releases_the_camera(open_camera):
    before = set(threading.enumerate())
    capture = FakeCapture()
    camera = open_camera(capture)
    capture.give(picture(0))
    capture.inbox.put(picture(1))
    camera._is_closed = True

    camera.close()
    camera.close()

    assert set(threading.enumerate()) <= before
    assert capture.released_by == ["dff-edge fake reader"]
    assert (list(camera), camera.read(LONG_S), camera.state) == ([], None, "closed")


@pytest.mark.parametrize("outage", [False, True], ids=["silent", "lost"])
def test_close_ends_a_waiting_iteration_at_once(open_camera, outage):
    capture = FakeCapture()
    camera = open_camera(capture)
    rest = []
    consumer = threading.Thread(target=lambda: rest.extend(camera))
    consumer.start()
    if outage:
        capture.inbox.put(SourceError("USB gone"))
        eventually(lambda: camera.state == "lost")
    closer = threading.Thread(target=camera.close)
    closer.start()

    consumer.join(LONG_S)  # while the read still hangs

    assert not consumer.is_alive()
    assert rest == []
    capture.inbox.put("over")
    closer.join(LONG_S)
    assert not closer.is_alive()


def test_stuck_driver_does_not_hold_up_close(open_camera, caplog):
    camera = open_camera(FakeCapture(), patience=Patience(join_s=0.05))

    camera.close()

    assert "does not return from a call; left behind" in caplog.text


class FlakyCamera:
    """Every connection opens a descriptor, gives two frames, and dies."""

    fps = None
    size = None

    def __init__(self):
        self.descriptor = os.open("/dev/null", os.O_RDONLY)
        self.left = 2

    def read(self):
        self.left -= 1
        if self.left < 0:
            raise SourceError("dead again")
        return Shot(picture(1), time.monotonic())

    def release(self):
        os.close(self.descriptor)


def test_two_hundred_reconnects_leave_nothing_behind(caplog, request):
    caplog.set_level(logging.ERROR, "dff_edge.runtime")
    descriptors, threads = len(os.listdir("/proc/self/fd")), set(threading.enumerate())
    patience = Patience(first_retry_s=1e-5)
    most = 0
    gc.collect()
    gc.disable()  # connections are given back without it
    request.addfinalizer(gc.enable)
    with CameraSource(FlakyCamera, "flaky", patience=patience) as camera:
        indices, stretches = [], []
        while camera.counts.reconnects < 200:
            frame = camera.read(LONG_S)
            indices.append(frame.index)
            stretches.append(frame.stretch)
            most = max(most, len(set(threading.enumerate()) - threads))

    assert sum(type(thing) is FlakyCamera for thing in gc.get_objects()) <= 1
    assert most <= 2
    assert set(threading.enumerate()) <= threads
    assert len(os.listdir("/proc/self/fd")) == descriptors
    assert all(a < b for a, b in zip(indices, indices[1:], strict=False))
    assert stretches == sorted(stretches)


class EndlessCamera:
    fps = None
    size = None

    def read(self):
        time.sleep(1e-4)
        return Shot(picture(1), time.monotonic())

    def release(self):
        pass


def test_interrupts_leave_a_camera_that_works():
    """As Ctrl-C would, anywhere in a wait; the other threads must never be left waiting."""
    rng = random.Random(1)
    camera = CameraSource(EndlessCamera, "endless")
    previous = signal.signal(signal.SIGALRM, signal.default_int_handler)
    interrupts = 0
    try:
        for _ in range(300):
            try:
                signal.setitimer(signal.ITIMER_REAL, rng.uniform(1e-5, 2e-3))
                while True:
                    camera.read(0.0005)
            except KeyboardInterrupt:
                interrupts += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)

    assert interrupts == 300
    assert camera.read(LONG_S) is not None
    camera.close()
    assert not camera._thread.is_alive()


def test_first_connection_that_hangs_is_an_error_in_time():
    hangs, capture = threading.Event(), FakeCapture()

    def connect():
        hangs.wait(LONG_S)
        return capture

    with pytest.raises(SourceError, match=r"'fake' did not connect within 0\.05 s"):
        CameraSource(connect, "fake", patience=Patience(connect_s=0.05))

    hangs.set()
    eventually(lambda: capture.released_by)
