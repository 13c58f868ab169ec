"""The live source, with a camera that the test operates by hand."""

import logging
import queue
import threading
import time

import numpy as np
import pytest

from dff_edge.runtime.errors import SourceError
from dff_edge.runtime.sources import open_source
from dff_edge.runtime.sources.camera import CameraSource

LONG_S = 30.0  # never reached when the code is right


class FakeCapture:
    """Gives what the test puts in; ``read`` blocks until then. Tells how many reads have ended."""

    def __init__(self):
        self.inbox = queue.Queue()
        self.reads = threading.Semaphore(0)
        self.released_by = []

    def read(self):
        self.reads.release()  # the result of the read before has been taken care of
        item = self.inbox.get(timeout=LONG_S)
        if isinstance(item, Exception):
            raise item
        return item is not None, item

    def release(self):
        self.released_by.append(threading.current_thread().name)

    def give(self, *items):
        """Hand over items and wait until the reader comes back for more after the last."""
        for item in items:
            assert self.reads.acquire(timeout=LONG_S)
            self.inbox.put(item)
        assert self.reads.acquire(timeout=LONG_S)
        self.reads.release()


def picture(number, shape=(4, 6, 3)):
    return np.full(shape, number, np.uint8)


@pytest.fixture
def capture():
    return FakeCapture()


@pytest.fixture
def camera(capture):
    source = CameraSource(capture, "fake", fps=1000, timeout_s=4 * LONG_S, join_s=LONG_S)
    yield source
    capture.inbox.put(None)  # lets a waiting read end
    source.close()


def start(camera, capture):
    """Take frame 0."""
    capture.inbox.put(picture(0))
    frame = next(camera)
    assert capture.reads.acquire(timeout=LONG_S)  # of the read that frame 0 ended
    return frame


def test_newest_frame_is_kept_and_the_others_are_counted(camera, capture):
    first = start(camera, capture)
    capture.give(picture(1), picture(2), picture(3))

    newest = next(camera)

    assert (first.index, newest.index) == (0, 3)
    assert int(newest.image[0, 0, 0]) == 3
    assert (camera.counts.read, camera.counts.dropped, camera.counts.failed) == (2, 2, 0)


def test_stamps_are_monotonic_time(camera, capture):
    before = time.monotonic()
    frame = start(camera, capture)

    assert before <= frame.stamp_s <= time.monotonic()
    assert camera.live
    assert camera.size == (4, 6)


def test_failed_reads_and_unusable_frames_are_counted_and_take_numbers(camera, capture):
    start(camera, capture)
    capture.give(None, picture(0, (4, 6, 2)), picture(3))

    frame = next(camera)

    assert frame.index == 3
    assert (camera.counts.failed, camera.counts.dropped) == (2, 0)
    assert "frame 1: the camera's read failed" in camera.counts.reasons[0]
    assert "frame 2: The frame has shape (4, 6, 2)" in camera.counts.reasons[1]


def test_grey_camera_gives_bgr(camera, capture):
    capture.inbox.put(picture(9, (4, 6)))

    assert next(camera).image.shape == (4, 6, 3)


def test_silent_camera_is_an_error_and_does_not_hang(capture):
    camera = CameraSource(capture, "fake", timeout_s=0.05, join_s=LONG_S)
    capture.inbox.put(picture(0))
    next(camera)

    with pytest.raises(SourceError, match=r"gave no frame for 0\.05 s \(after 1 frames\)"):
        next(camera)

    capture.inbox.put(None)
    camera.close()


def test_driver_error_is_passed_on(camera, capture):
    start(camera, capture)
    capture.inbox.put(RuntimeError("USB gone"))

    with pytest.raises(SourceError, match="Camera 'fake' failed: USB gone"):
        next(camera)


def test_close_joins_the_thread_which_releases_the_device(capture):
    before = threading.enumerate()
    camera = CameraSource(capture, "fake", fps=1000, timeout_s=LONG_S, join_s=LONG_S)
    start(camera, capture)
    capture.inbox.put(picture(1))

    camera.close()
    camera.close()

    assert threading.enumerate() == before
    assert capture.released_by == ["dff-edge camera fake"]
    assert list(camera) == []


def test_close_ends_a_waiting_iteration(camera, capture):
    start(camera, capture)
    waiting = threading.Event()
    rest = []

    def consume():
        waiting.set()
        rest.extend(camera)

    consumer = threading.Thread(target=consume)
    consumer.start()
    assert waiting.wait(LONG_S)
    capture.inbox.put(None)
    camera.close()
    consumer.join(LONG_S)

    assert not consumer.is_alive()
    assert rest == []


def test_unused_camera_is_released(capture):
    camera = CameraSource(capture, "fake")
    camera.close()
    camera.close()

    assert capture.released_by == ["MainThread"]


def test_stuck_driver_does_not_hold_up_close(capture, caplog):
    camera = CameraSource(capture, "fake", timeout_s=LONG_S, join_s=0.05)
    start(camera, capture)

    with caplog.at_level(logging.WARNING, "dff_edge.runtime"):
        camera.close()

    assert "does not return from a read" in caplog.text
    capture.inbox.put(None)


@pytest.mark.parametrize("uri", ["97", "v4l2:///dev/video97"])
def test_absent_camera_is_refused_without_noise(uri, capfd):
    with pytest.raises(SourceError, match=r"/dev/video97 does not exist\. Cameras of this machine"):
        open_source(uri)

    assert capfd.readouterr() == ("", "")


def test_file_is_no_camera(tmp_path):
    (tmp_path / "x").touch()

    with pytest.raises(SourceError, match="is not a device"):
        open_source(f"v4l2://{tmp_path}/x")


def test_device_that_is_no_camera_is_refused():
    with pytest.raises(SourceError, match="is there but cannot be opened"):
        open_source("v4l2:///dev/null")
