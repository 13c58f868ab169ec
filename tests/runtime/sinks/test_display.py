"""The window, without one: what is said where there is no display."""

import sys

import cv2
import numpy as np
import pytest

from dff_edge import packages
from dff_edge.errors import SinkError
from dff_edge.frames import Frame, Result
from dff_edge.runtime.sinks import open_sink


class FakeWindows:
    """Stands in for OpenCV's windows."""

    def __init__(self, monkeypatch):
        self.shown = []
        self.key = -1
        self.visible = 1.0
        self.open = []
        monkeypatch.setenv("DISPLAY", ":0")
        monkeypatch.setattr(cv2, "namedWindow", lambda title, flags: self.open.append(title))
        monkeypatch.setattr(cv2, "imshow", lambda title, image: self.shown.append(image))
        monkeypatch.setattr(cv2, "waitKey", lambda delay: self.key)
        monkeypatch.setattr(cv2, "getWindowProperty", lambda title, prop: self.visible)
        monkeypatch.setattr(cv2, "destroyWindow", self.open.remove)


@pytest.fixture
def windows(monkeypatch):
    return FakeWindows(monkeypatch)


def open_display():
    return open_sink("display://", classes=["a"], colours=[(0, 0, 0)], fps=30)


def result():
    # Too small for a caption.
    frame = Frame(np.full((16, 24, 3), 100, np.uint8), 0, 0.0)
    return Result(frame, np.zeros((16, 24), np.uint8), 0, 0.0, {})


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems have a display")
def test_absent_display_is_a_clear_error(monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)

    with pytest.raises(SinkError, match=r"there is no display.*out\.mp4"):
        open_display()


def test_opencv_without_windows_is_a_clear_error(monkeypatch):
    def refuse(title, flags):
        raise cv2.error("The function is not implemented")

    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(cv2, "namedWindow", refuse)
    installed = ("onnxruntime", "opencv-python-headless")
    monkeypatch.setattr(packages, "version_of", lambda name: "5.0" if name in installed else None)

    with pytest.raises(
        SinkError,
        match="opens no windows.*uninstall -y opencv-python-headless && pip install 'opencv-py",
    ):
        open_display()


def test_annotated_frame_is_shown_and_the_window_closed(windows):
    with open_display() as sink:
        sink.write(result())

    assert windows.shown[0].mean() == pytest.approx(50, abs=1)  # half grey, half black
    assert windows.open == []
    assert not sink.stop_requested


@pytest.mark.parametrize(("key", "visible"), [(ord("q"), 1.0), (27, 1.0), (-1, 0.0)])
def test_person_can_ask_to_stop(windows, key, visible):
    with open_display() as sink:
        windows.key, windows.visible = key, visible
        sink.write(result())
        assert sink.stop_requested
        sink.write(result())

    assert len(windows.shown) == 1


@pytest.mark.parametrize(("key", "visible"), [(ord("q"), 1.0), (27, 1.0), (-1, 0.0)])
def test_person_can_ask_to_stop_while_no_result_comes(windows, key, visible):
    with open_display() as sink:
        sink.idle()
        assert not sink.stop_requested
        windows.key, windows.visible = key, visible
        sink.idle()
        assert sink.stop_requested


def test_window_that_fails_in_a_pause_is_a_clear_error(windows, monkeypatch):
    def fail(delay):
        raise cv2.error("the display went away")

    with open_display() as sink:
        monkeypatch.setattr(cv2, "waitKey", fail)
        with pytest.raises(SinkError, match="the window failed"):
            sink.idle()
