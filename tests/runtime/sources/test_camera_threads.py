"""The threads of a camera: closing, reads and connects that hang, interrupts, many connections."""

import gc
import logging
import os
import random
import signal
import threading
import time

import pytest

from dff_edge.errors import SourceError
from dff_edge.runtime.sources.camera import MAX_STUCK, CameraSource, Patience
from dff_edge.runtime.sources.capture import Shot
from tests.runtime.sources.cameras import LONG_S, FakeCapture, Mortal, eventually, picture


def test_hanging_reads_are_left_behind_and_bounded(open_camera, caplog):
    captures = [FakeCapture() for _ in range(MAX_STUCK + 2)]
    for capture in captures[1:]:
        capture.inbox.put(picture(0))
    patience = Patience(
        gap_s=0.01, lost_s=0.02, connect_s=LONG_S, first_retry_s=0.001, max_retry_s=0.01
    )
    camera = open_camera(*captures, patience=patience)
    captures[0].inbox.put(picture(0))
    eventually(lambda: camera.stuck == MAX_STUCK)
    time.sleep(0.1)
    assert camera.cameras.tries == MAX_STUCK  # no further one is tried

    captures[0].inbox.put(picture(7))  # the first read returns: too late to be a frame
    eventually(lambda: camera._newest and camera._newest[0].index >= MAX_STUCK)

    assert captures[0].released_by == ["dff-edge fake reader"]
    assert int(next(camera).image[0, 0, 0]) == 0
    assert "left behind (3 of at most 3)" in caplog.text


def test_connection_that_still_says_something_is_not_left_behind(open_camera, caplog):
    """As a stream does whose packets come and make no pictures."""
    first, second = FakeCapture(), FakeCapture()
    first.read = lambda: first.inbox.get() if first.inbox.qsize() else time.sleep(0.001)
    patience = Patience(gap_s=0.02, lost_s=0.05, connect_s=LONG_S, join_s=LONG_S)
    camera = open_camera(first, second, patience=patience)
    first.inbox.put(Shot(picture(0), 0.0))
    eventually(lambda: camera.cameras.tries == 2)

    assert len(first.released_by) == 1
    assert "lost: no frame for 0.05 s" in caplog.text
    assert "left behind" not in caplog.text


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


class FlakyCamera(Mortal):
    """Every connection opens a descriptor, gives two frames, and dies."""

    def __init__(self):
        super().__init__(2)
        self.descriptor = os.open("/dev/null", os.O_RDONLY)

    def release(self):
        os.close(self.descriptor)


def test_two_hundred_reconnects_leave_nothing_behind(caplog, request):
    caplog.set_level(logging.ERROR, "dff_edge.runtime")
    descriptors, threads = len(os.listdir("/proc/self/fd")), set(threading.enumerate())
    patience = Patience(first_retry_s=1e-5, max_retry_s=1e-4)
    most = 0
    gc.collect()
    gc.disable()  # connections are given back without it
    request.addfinalizer(gc.enable)
    with CameraSource(FlakyCamera, "flaky", patience=patience) as camera:
        indices, segments = [], []
        while camera.counts.reconnects < 200:
            frame = camera.read(LONG_S)
            indices.append(frame.index)
            segments.append(frame.segment)
            most = max(most, len(set(threading.enumerate()) - threads))

    assert sum(type(thing) is FlakyCamera for thing in gc.get_objects()) <= 1
    assert most <= 2
    assert set(threading.enumerate()) <= threads
    assert len(os.listdir("/proc/self/fd")) == descriptors
    assert all(a < b for a, b in zip(indices, indices[1:], strict=False))
    assert segments == sorted(segments)


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


def test_interrupt_of_opening_ends_the_threads(monkeypatch):
    """Ctrl-C where Thread.start waits for the thread that it has started."""
    before, tries, start = set(threading.enumerate()), [], threading.Thread.start

    def start_and_interrupt(thread):
        start(thread)
        if not thread.name.endswith("reader"):
            raise KeyboardInterrupt

    def connect():
        tries.append(1)
        return EndlessCamera()

    monkeypatch.setattr(threading.Thread, "start", start_and_interrupt)
    with pytest.raises(KeyboardInterrupt):
        CameraSource(connect, "endless", patience=Patience(first_retry_s=0.001))

    eventually(lambda: set(threading.enumerate()) <= before)
    assert len(tries) == 1


def test_first_connection_that_hangs_is_an_error_in_time():
    hangs, capture = threading.Event(), FakeCapture()

    def connect():
        hangs.wait(LONG_S)
        return capture

    with pytest.raises(SourceError, match=r"'fake' did not connect within 0\.05 s"):
        CameraSource(connect, "fake", patience=Patience(connect_s=0.05))

    hangs.set()
    eventually(lambda: capture.released_by)
