"""Live frames from a camera: always the newest, never a queue."""

from __future__ import annotations

import glob
import logging
import os
import stat
import sys
import threading
import time
from typing import Any, Protocol

import cv2

from dff_edge.runtime.errors import FrameError, SourceError
from dff_edge.runtime.frames import Frame
from dff_edge.runtime.resize import check_image
from dff_edge.runtime.sources.base import Source
from dff_edge.runtime.uri import SourceUri

TIMEOUT_S = 5.0  # without a frame, before the camera counts as gone
JOIN_S = 15.0  # OpenCV's V4L2 read gives up by itself after 10 s

_LOG = logging.getLogger("dff_edge.runtime")


class Capture(Protocol):
    """What a camera must do; ``cv2.VideoCapture`` does."""

    def read(self) -> tuple[bool, Any]:
        """Wait for a frame; a new array each time."""

    def release(self) -> None:
        """Let go of the device."""


class CameraSource(Source):
    """A capture object read by its own thread, which keeps the newest frame only.

    The thread starts with the first ``next``; frames count from there. Stamps are
    ``time.monotonic()`` as the driver hands the frame over. ``next`` raises SourceError when no
    frame came for ``timeout_s``. ``close`` joins the thread; a driver that is stuck in a read is
    left behind, with a warning, after ``join_s``.
    """

    def __init__(
        self,
        capture: Capture,
        uri: str,
        *,
        fps: float | None = None,
        size: tuple[int, int] | None = None,
        timeout_s: float = TIMEOUT_S,
        join_s: float = JOIN_S,
    ) -> None:
        super().__init__(uri, live=True)
        self.fps = fps
        self.size = size
        self._capture = capture
        self._timeout_s = timeout_s
        self._join_s = join_s
        self._changed = threading.Condition()
        self._closed = threading.Event()
        self._newest: Frame | None = None
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None

    def __next__(self) -> Frame:
        with self._changed:
            if self._closed.is_set():
                raise StopIteration
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._pump, name=f"dff-edge camera {self.uri}", daemon=True
                )
                self._thread.start()
            self._changed.wait_for(self._has_news, timeout=self._timeout_s)
            if self._closed.is_set():
                raise StopIteration
            frame, self._newest = self._newest, None
            if frame is None:
                raise self._gone() from self._error
            self.counts.read += 1
            return frame

    def close(self) -> None:
        with self._changed:
            first_close = not self._closed.is_set()
            self._closed.set()
            self._newest = None
            self._changed.notify_all()
            thread = self._thread
        if thread is None:
            if first_close:
                self._capture.release()
            return
        thread.join(self._join_s)
        if thread.is_alive():
            _LOG.warning("camera %s: its driver does not return from a read; left behind", self.uri)

    def _has_news(self) -> bool:
        return self._newest is not None or self._error is not None or self._closed.is_set()

    def _gone(self) -> SourceError:
        if self._error is not None:
            return SourceError(f"Camera '{self.uri}' failed: {self._error}")
        failed = f", {self.counts.failed} reads failed" if self.counts.failed else ""
        return SourceError(
            f"Camera '{self.uri}' gave no frame for {self._timeout_s:g} s (after "
            f"{self.counts.read} frames{failed}). Is it still plugged in, and not used by "
            "another program?"
        )

    def _pump(self) -> None:
        index = 0
        try:
            while not self._closed.is_set():
                is_read, image = self._capture.read()
                stamp_s = time.monotonic()
                with self._changed:
                    if self._closed.is_set():
                        break
                    is_taken = self._take(is_read, image, index, stamp_s)
                index += 1
                if not is_taken:
                    # A dead device fails at once: do not spin, but let a number pass a period.
                    self._closed.wait(1.0 / (self.fps or 30.0))
        except Exception as error:
            with self._changed:
                self._error = error
                self._changed.notify_all()
        finally:
            # Here, not in close: releasing while another thread reads is not safe.
            self._capture.release()

    def _take(self, is_read: bool, image: Any, index: int, stamp_s: float) -> bool:
        if not is_read:
            self._skip(f"frame {index}: the camera's read failed")
            return False
        try:
            frame = Frame(check_image(image), index, stamp_s)
        except FrameError as error:
            self._skip(f"frame {index}: {error}")
            return False
        if self._newest is not None:
            self.counts.dropped += 1
        height, width = frame.image.shape[:2]
        self.size = self.size or (height, width)
        self._newest = frame
        self._changed.notify_all()
        return True


def open_camera(uri: SourceUri, *, timeout_s: float = TIMEOUT_S) -> CameraSource:
    """Open a camera by number or device path.

    Raises:
        SourceError: it is absent, may not be used, or is busy.
    """
    width, height, fps = uri.integer("width"), uri.integer("height"), uri.rate()
    on_linux = sys.platform.startswith("linux")
    if on_linux:
        # Asked of the system first: OpenCV would try every backend and complain on stderr.
        device = f"/dev/video{int(uri.target)}" if uri.target.isdecimal() else uri.target
        _check_device(device, uri.text)
    backend = cv2.CAP_V4L2 if on_linux else cv2.CAP_ANY
    target = int(uri.target) if uri.target.isdecimal() else uri.target
    capture = cv2.VideoCapture(target, backend)
    if not capture.isOpened():
        capture.release()
        raise SourceError(
            f"Camera '{uri.text}' is there but cannot be opened: it is in use by another "
            "program, or it is not a capture device (try the next number)."
        )
    wanted = (
        (cv2.CAP_PROP_FRAME_WIDTH, width),
        (cv2.CAP_PROP_FRAME_HEIGHT, height),
        (cv2.CAP_PROP_FPS, fps),
    )
    for prop, value in wanted:
        if value is not None:
            capture.set(prop, value)
    rate = capture.get(cv2.CAP_PROP_FPS)
    seen = (
        int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)),
        int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)),
    )
    return CameraSource(
        capture,
        uri.text,
        fps=rate if 0 < rate <= 1000 else None,
        size=seen if min(seen) > 0 else None,
        timeout_s=timeout_s,
    )


def _check_device(device: str, text: str) -> None:
    try:
        mode = os.stat(device).st_mode
    except OSError as error:
        present = ", ".join(sorted(glob.glob("/dev/video*"))) or "none"
        raise SourceError(
            f"Camera '{text}': {device} does not exist. Cameras of this machine: {present}."
        ) from error
    if not stat.S_ISCHR(mode):
        raise SourceError(f"Camera '{text}': {device} is not a device.")
    if not os.access(device, os.R_OK | os.W_OK):
        raise SourceError(
            f"Camera '{text}': no permission to use {device}. Add the user to its group, usually: "
            "sudo usermod -aG video $USER, then log in again."
        )
