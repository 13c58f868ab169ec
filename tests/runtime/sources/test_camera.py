"""The loop around a camera: its frames, its loss and its return."""

import threading
import time

import pytest

from dff_edge.errors import SourceError
from dff_edge.runtime.sources import camera as camera_module
from dff_edge.runtime.sources.camera import CameraSource, Patience
from dff_edge.runtime.sources.capture import Shot
from tests.runtime.sources.cameras import (
    CALM,
    LONG_S,
    Cameras,
    FakeCapture,
    Mortal,
    eventually,
    picture,
)


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
    assert (first.segment, newest.segment, camera.state) == (0, 0, "live")


def test_pictures_that_the_capture_skipped_are_dropped_frames_and_take_numbers(open_camera):
    capture = FakeCapture()
    camera = open_camera(capture)
    capture.give(Shot(picture(0), 0.0, skipped=5))  # of before: none was asked for yet
    assert next(camera).index == 0
    capture.give(Shot(picture(1), 0.1, skipped=3), Shot(picture(2), 0.2, skipped=1))

    assert next(camera).index == 6
    assert (camera.counts.read, camera.counts.dropped) == (2, 5)


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
def test_gap_without_an_outage_begins_a_segment(open_camera, second):
    capture = FakeCapture()
    camera = open_camera(capture)
    segments = []
    for shot in (picture(0), picture(0), second, second._replace(follows=True)):
        capture.give(shot)
        segments.append(next(camera).segment)

    assert segments == [0, 0, 1, 1]


def test_segment_of_a_dropped_frame_is_that_of_the_next(open_camera):
    capture = FakeCapture()
    camera = open_camera(capture)
    capture.give(picture(0), Shot(picture(1), 0.0, follows=False), picture(2))

    assert next(camera).segment == 1


def test_stall_is_seen_without_asking_and_begins_a_segment(open_camera, caplog):
    capture = FakeCapture()
    camera = open_camera(capture, patience=Patience(gap_s=0.05, lost_s=4 * LONG_S))
    capture.give(picture(0))
    assert next(camera).segment == 0

    eventually(lambda: camera.state == "stalled")
    capture.give(picture(1))

    frame = next(camera)
    assert (frame.index, frame.segment, camera.counts.reconnects) == (1, 1, 0)
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


def test_lost_camera_comes_back_in_a_new_segment(open_camera, caplog):
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
    assert (before.segment, after.segment) == (0, 1)
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


class Clock:
    """In place of the module `time`: stands still unless the test moves it."""

    def __init__(self):
        self.now_s = 100.0

    def monotonic(self):
        return self.now_s


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(camera_module, "time", clock)
    return clock


@pytest.fixture
def pauses(monkeypatch, clock):
    """The pauses before the first seven tries to connect anew; then the source is closed."""
    pauses = []

    def rest(source, until_s):
        pauses.append(until_s - clock.now_s)
        if len(pauses) == 7:
            source._is_closed = True

    monkeypatch.setattr(CameraSource, "_rest", rest)
    monkeypatch.setattr(camera_module.random, "uniform", lambda low, high: low)
    return pauses


@pytest.mark.parametrize(
    "others", [[], [Mortal() for _ in range(7)]], ids=["absent", "dies after a frame"]
)
def test_pauses_double_up_to_a_bound_and_differ_by_chance(open_camera, pauses, others):
    capture = FakeCapture()
    camera = open_camera(capture, *others, patience=Patience())
    capture.inbox.put(SourceError("gone"))
    eventually(lambda: len(pauses) == 7)

    assert camera.patience == Patience(1.0, 5.0, 20.0, 0.2, 5.0, 12.0)  # as the docs say
    assert pauses == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 2.5, 2.5])  # half of 0.2, 0.4, .. 5


def test_pauses_are_short_again_after_frames_for_a_while(open_camera, pauses, clock):
    def live():
        clock.now_s += 0.9

    capture = FakeCapture()
    others = [SourceError("unplugged")] * 2, [Mortal(7, live)]  # it lives for 5.4 s, over lost_s
    open_camera(capture, *others[0], *others[1], patience=Patience())
    capture.inbox.put(SourceError("gone"))
    eventually(lambda: len(pauses) == 7)

    assert pauses == pytest.approx([0.1, 0.2, 0.4, 0.1, 0.2, 0.4, 0.8])


def test_camera_that_comes_back_for_a_frame_only_is_given_up():
    camera = CameraSource(
        Mortal, "mortal", retry_s=0.1, patience=Patience(first_retry_s=0.001, max_retry_s=0.001)
    )
    eventually(lambda: camera._is_over)
    camera._newest.clear()
    with pytest.raises(SourceError, match=r"did not come back within 0\.1 s: dead again\. Check"):
        camera.read(0)

    camera.close()


def test_camera_that_sends_something_is_waited_for_beyond_its_time(open_camera, clock):
    capture = FakeCapture()
    camera = open_camera(capture, patience=Patience())
    for _ in range(5):
        clock.now_s += 15.0  # of 20 for one that sends nothing
        capture.give(None)
        camera._wake.set()
    capture.give(picture(0))

    assert next(camera).index == 0
    assert camera.cameras.tries == 1


def test_reason_that_is_a_sentence_ends_in_one_full_stop(open_camera):
    capture = FakeCapture()
    camera = open_camera(capture, retry_s=0)
    capture.inbox.put(SourceError("It does not answer."))

    with pytest.raises(SourceError, match=r"It does not answer\. Check its power"):
        next(camera)


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
