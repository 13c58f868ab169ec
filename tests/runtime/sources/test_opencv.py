"""Cameras read by OpenCV: a device that goes away, and pipelines, played where that is possible."""

import os
import subprocess
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from dff_edge.errors import ConfigError, MissingDependencyError, SourceError
from dff_edge.runtime.sources import open_source, opencv
from dff_edge.runtime.sources.opencv import (
    MAX_FAILED_READS,
    OpenCvCapture,
    complete_pipeline,
    csi_pipeline,
)
from dff_edge.uri import parse_source

REPOSITORY = Path(__file__).parents[3]
SYSTEM_PYTHON = "/usr/bin/python3"


class Device:
    """Stands in for ``cv2.VideoCapture``; its reads work or not, as the test says."""

    def __init__(self, *works, fps=100.0, height=4.0, width=6.0):
        self.works = list(works)
        self.properties = {
            cv2.CAP_PROP_FPS: fps,
            cv2.CAP_PROP_FRAME_HEIGHT: height,
            cv2.CAP_PROP_FRAME_WIDTH: width,
        }

    def get(self, prop):
        return self.properties[prop]

    def grab(self):
        return self.works.pop(0)

    def release(self):
        pass

    def retrieve(self):
        return True, np.zeros((4, 6, 3), np.uint8)


def test_device_says_its_rate_and_size():
    capture = OpenCvCapture(Device(fps=15.0))

    assert (capture.fps, capture.size) == (15.0, (4, 6))


def test_device_that_knows_neither_rate_nor_size():
    capture = OpenCvCapture(Device(fps=0.0, height=0.0, width=0.0))

    assert (capture.fps, capture.size) == (None, None)


def test_device_that_fails_for_good_is_gone():
    capture = OpenCvCapture(Device(*[False] * MAX_FAILED_READS))

    for _ in range(MAX_FAILED_READS - 1):
        assert capture.read() == "the camera's read failed"
    with pytest.raises(SourceError, match="10 reads in a row failed"):
        capture.read()


def test_device_that_fails_now_and_then_is_not_gone():
    capture = OpenCvCapture(Device(*([False] * (MAX_FAILED_READS - 1) + [True]) * 2))
    shots = [capture.read() for _ in range(2 * MAX_FAILED_READS)]

    assert [isinstance(shot, str) for shot in shots].count(False) == 2


class Driver(Device):
    """Takes a frame each period into one of four buffers; full, it takes none. Its own clock."""

    period_s = 0.04
    delay_s = 0.01  # from the time that a frame is taken until it can be grabbed

    def __init__(self, stamps=True, retrieve_s=0.0):
        super().__init__(fps=25.0)
        self.now_s = 1000.0
        self.retrieve_s = retrieve_s
        self.stamps = stamps
        self.taken = []  # times of frames that wait in buffers
        self.next_s = self.now_s
        self.grabbed_s = None

    def pass_by(self, seconds):
        self.now_s += seconds
        while self.next_s <= self.now_s:
            if len(self.taken) < 4:
                self.taken.append(self.next_s)
            self.next_s += self.period_s

    def grab(self):
        if not self.taken:
            self.pass_by(self.next_s - self.now_s)
        self.grabbed_s = self.taken.pop(0)
        self.pass_by(max(0.0, self.grabbed_s + self.delay_s - self.now_s))
        return True

    def retrieve(self):
        self.pass_by(self.retrieve_s)
        return super().retrieve()

    def get(self, prop):
        if prop == cv2.CAP_PROP_POS_MSEC:
            return 1e3 * self.grabbed_s if self.stamps else 0.0
        return super().get(prop)


@pytest.fixture
def play(monkeypatch):
    """Shots of a driver, each with the time that its frame was taken and that it was handed out."""

    def play(driver, pauses, has_stamps=True):
        monkeypatch.setattr(opencv, "time", SimpleNamespace(monotonic=lambda: driver.now_s))
        capture = opencv.OpenCvCapture(driver, has_stamps=has_stamps)
        shots = []
        for pause_s in pauses:
            driver.pass_by(pause_s)
            shots.append((capture.read(), driver.grabbed_s, driver.now_s))
        return shots

    return play


def test_stamp_is_that_of_the_driver(play):
    for shot, taken_s, _ in play(Driver(), [0.0] * 5):
        assert shot.stamp_s == pytest.approx(taken_s)


@pytest.mark.parametrize("stamps", [True, False])
def test_after_a_pause_the_newest_frame_is_taken_and_the_others_are_counted(play, stamps):
    driver = Driver(stamps)
    shots = play(driver, [0.0, 0.0, 1.0, 0.0], has_stamps=stamps)

    shot, taken_s, now_s = shots[2]
    assert now_s - taken_s <= driver.period_s  # not a second, as the four that waited
    assert shot.skipped == 4
    assert shot.stamp_s == pytest.approx(taken_s, abs=driver.delay_s + 1e-9)
    assert [shot.skipped for shot, _, _ in shots[:2]] == [0, 0]


@pytest.mark.parametrize("stamps", [True, False])
def test_slow_decoding_does_not_fill_the_buffers_with_old_frames(play, stamps):
    driver = Driver(stamps, retrieve_s=0.1)
    shots = play(driver, [0.0] * 20, has_stamps=stamps)

    for shot, taken_s, now_s in shots[2:]:
        assert now_s - taken_s <= driver.retrieve_s + driver.period_s + 1e-9
        assert shot.stamp_s == pytest.approx(taken_s, abs=driver.delay_s + 1e-9)


def test_frame_that_was_ready_a_moment_ago_is_not_passed_over(play):
    driver = Driver(retrieve_s=0.05)  # a little more than a period
    shots = play(driver, [0.0] * 20)

    assert sum(shot.skipped for shot, _, _ in shots) <= 5


@pytest.mark.parametrize("stamp_s", [-5.0, 0.0, 1e9])
def test_stamp_of_another_clock_is_not_used(play, stamp_s):
    driver = Driver()
    driver.get = lambda prop, get=driver.get: (
        1e3 * stamp_s if prop == cv2.CAP_PROP_POS_MSEC else get(prop)
    )
    for shot, taken_s, _ in play(driver, [0.0] * 5):
        assert shot.stamp_s == pytest.approx(taken_s + driver.delay_s)


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


@pytest.mark.skipif(
    cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER), reason="this OpenCV has GStreamer"
)
@pytest.mark.parametrize("uri", ["csi://0", "gst://videotestsrc"])
def test_opencv_without_gstreamer_is_named(uri):
    with pytest.raises(MissingDependencyError, match="built without.*python3-opencv"):
        open_source(uri)


def test_csi_camera_is_a_pipeline_that_keeps_the_newest():
    pipeline = csi_pipeline(parse_source("csi://1?width=1280&height=720&fps=60"))

    assert pipeline.startswith("nvarguscamerasrc sensor-id=1 ! ")
    assert "width=1280,height=720,framerate=60/1" in pipeline
    assert pipeline.endswith("format=BGR ! appsink drop=true max-buffers=1 sync=false")


def test_csi_camera_has_a_common_size_by_default():
    assert "width=1920,height=1080,framerate=30/1" in csi_pipeline(parse_source("csi://0"))


def test_csi_rate_that_is_no_whole_number_is_refused():
    with pytest.raises(ConfigError, match=r"fps is '7\.5', expected a whole number"):
        csi_pipeline(parse_source("csi://0?fps=7.5"))


def test_pipeline_gets_a_sink_unless_it_has_one():
    assert complete_pipeline("a ! b").endswith("! appsink drop=true max-buffers=1 sync=false")
    assert complete_pipeline("a ! appsink") == "a ! appsink"


PLAY = """
import time
from dff_edge.errors import SourceError
from dff_edge.runtime.sources import open_source

with open_source("gst://videotestsrc is-live=true ! video/x-raw,width=64,height=48") as source:
    frames = [next(source) for _ in range(5)]
assert {frame.image.shape for frame in frames} == {(48, 64, 3)}
assert all(a.index < b.index for a, b in zip(frames, frames[1:]))
assert all(0 < time.monotonic() - frame.stamp_s < 5 for frame in frames)
assert source.fps == 30

with open_source("gst://videotestsrc num-buffers=5?retry=0") as source:
    try:
        list(source)
    except SourceError as error:
        assert "10 reads in a row failed" in str(error), error
    else:
        raise AssertionError("the end of the pipeline was not noticed")

try:
    open_source("gst://filesrc location=/nowhere ! decodebin")
except SourceError as error:
    assert "does not start" in str(error)
print("played")
"""


def test_pipeline_plays_in_an_opencv_with_gstreamer():
    probe = "import cv2; assert cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER)"
    if (
        not Path(SYSTEM_PYTHON).exists()
        or subprocess.run([SYSTEM_PYTHON, "-c", probe], capture_output=True).returncode
    ):
        pytest.skip("no OpenCV with GStreamer: apt install python3-opencv")

    done = subprocess.run(
        [SYSTEM_PYTHON, "-c", PLAY],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.stdout == "played\n", done.stderr
