"""Cameras read through OpenCV: V4L2 devices, CSI cameras and GStreamer pipelines."""

from __future__ import annotations

import glob
import math
import os
import stat
import sys
import time
from typing import Any

from dff_edge.errors import MissingDependencyError, SourceError
from dff_edge.opencv import cv2
from dff_edge.runtime.sources.capture import Shot
from dff_edge.uri import SourceUri

MAX_FAILED_READS = 10  # in a row, a frame period apart, until the device counts as gone
MAX_WAITING = 10  # frames that a driver queues at most, as OpenCV requests

_FALLBACK_FPS = 30.0
_AT_ONCE_S = 0.001  # a faster grab has not waited for its frame
_OLDEST_S = 60.0  # of a driver's stamp: a greater age means another clock


class OpenCvCapture:
    """A ``cv2.VideoCapture``: its newest frame, and whether its device is gone.

    A driver fills its few buffers and then waits, so that frames grabbed after a pause are old.
    Grabbing is quick and decoding is done on retrieval, so that old frames are grabbed and
    skipped. A frame is the newest if the grab had to wait for it, or if it is within a period.

    Args:
        device: an open one.
        has_stamps: whether its position is the time at which the kernel got the frame, by the clock
            of ``time.monotonic()``, as for V4L2. Else a frame that was queued is assumed to be as
            old as the grab before: rather too old than too young.
    """

    def __init__(self, device: Any, *, has_stamps: bool = False) -> None:
        self._device = device
        self._has_stamps = has_stamps
        self._failed = 0
        self._looked_s = time.monotonic()
        self._stamp_s = -math.inf
        rate = device.get(cv2.CAP_PROP_FPS)
        height = int(device.get(cv2.CAP_PROP_FRAME_HEIGHT))
        width = int(device.get(cv2.CAP_PROP_FRAME_WIDTH))
        self.fps: float | None = rate if 0 < rate <= 1000 else None
        self.size: tuple[int, int] | None = (height, width) if min(height, width) > 0 else None

    def read(self) -> Shot | str:
        is_read, image = False, None
        skipped = self._grab_newest()
        if skipped is not None:
            is_read, image = self._device.retrieve()
        if is_read:
            self._failed = 0
            return Shot(image, self._stamp_s, skipped=skipped or 0)
        self._failed += 1
        if self._failed == MAX_FAILED_READS:
            raise SourceError(f"{MAX_FAILED_READS} reads in a row failed")
        time.sleep(1.0 / (self.fps or _FALLBACK_FPS))  # a device that is gone fails at once
        return "the camera's read failed"

    def release(self) -> None:
        self._device.release()

    def _grab_newest(self) -> int | None:
        """Grab and stamp; return how many frames were skipped, None when grabbing failed."""
        period_s = 1.0 / (self.fps or _FALLBACK_FPS)
        before_s, skipped = self._looked_s, 0
        was_away = time.monotonic() - before_s > 2 * period_s  # so old frames may wait
        while True:
            start_s = time.monotonic()
            is_grabbed = self._device.grab()
            now_s = self._looked_s = time.monotonic()
            if not is_grabbed:
                return None
            has_waited = now_s - start_s >= _AT_ONCE_S
            stamp_s = self._driver_stamp(now_s)
            is_newest = not was_away if stamp_s is None else now_s - stamp_s < period_s
            if has_waited or is_newest or skipped == MAX_WAITING:
                break
            skipped += 1
        if stamp_s is None:
            stamp_s = now_s if has_waited else before_s
        self._stamp_s = max(stamp_s, self._stamp_s)  # no frame is older than the one before
        return skipped

    def _driver_stamp(self, now_s: float) -> float | None:
        if not self._has_stamps:
            return None
        stamp_s = 1e-3 * self._device.get(cv2.CAP_PROP_POS_MSEC)
        return stamp_s if now_s - _OLDEST_S < stamp_s <= now_s else None


def connect_v4l2(uri: SourceUri) -> OpenCvCapture:
    """Open a camera by number or device path.

    Raises:
        SourceError: it is absent, may not be used, or is busy.
        ConfigError: an option is invalid.
    """
    width, height, fps = uri.integer("width"), uri.integer("height"), uri.per_second("fps")
    on_linux = sys.platform.startswith("linux")
    if on_linux:
        # Checked first: OpenCV would try every backend and complain on stderr.
        path = f"/dev/video{int(uri.target)}" if uri.target.isdecimal() else uri.target
        _check_device(path, uri.text)
    backend = cv2.CAP_V4L2 if on_linux else cv2.CAP_ANY
    target = int(uri.target) if uri.target.isdecimal() else uri.target
    device = cv2.VideoCapture(target, backend)
    if not device.isOpened():
        device.release()
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
            device.set(prop, value)
    return OpenCvCapture(device, has_stamps=on_linux)


def connect_gstreamer(uri: SourceUri) -> OpenCvCapture:
    """Start a GStreamer pipeline: the user's own, or that of a CSI camera.

    Raises:
        MissingDependencyError: OpenCV is built without GStreamer.
        SourceError: the pipeline does not start.
        ConfigError: an option is invalid.
    """
    pipeline = csi_pipeline(uri) if uri.kind == "csi" else complete_pipeline(uri.target)
    if not cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER):
        raise MissingDependencyError(
            f"'{uri.text}' needs an OpenCV with GStreamer, and the installed one "
            f"({cv2.__version__}) is built without, as are the wheels of opencv-python. Uninstall "
            "opencv-python and use the system's: JetPack's, or Debian's python3-opencv, in an "
            "environment made with --system-site-packages."
        )
    # Timeouts are not set: older versions refuse the option. The camera loop has its own.
    device = cv2.VideoCapture(pipeline, cv2.CAP_GSTREAMER)
    if not device.isOpened():
        device.release()
        advice = (
            "Is the camera connected, and not in use by another program?"
            if uri.kind == "csi"
            else "Try it in gst-launch-1.0 first, with fakesink at its end."
        )
        raise SourceError(f"'{uri.text}': the GStreamer pipeline does not start. {advice}")
    return OpenCvCapture(device)


def csi_pipeline(uri: SourceUri) -> str:
    """Return the pipeline of a Jetson's CSI camera, by default 1920 x 1080 at 30 fps."""
    width, height = uri.integer("width", 1920), uri.integer("height", 1080)
    fps = uri.integer("fps", 30)
    return (
        f"nvarguscamerasrc sensor-id={int(uri.target)} ! "
        f"video/x-raw(memory:NVMM),width={width},height={height},framerate={fps}/1 ! "
        "nvvidconv ! video/x-raw,format=BGRx ! "
        "videoconvert ! video/x-raw,format=BGR ! appsink drop=true max-buffers=1 sync=false"
    )


def complete_pipeline(pipeline: str) -> str:
    """Return the pipeline with a sink of the newest frame only, unless it has an appsink."""
    if "appsink" in pipeline:
        return pipeline
    return (
        f"{pipeline} ! videoconvert ! video/x-raw,format=BGR ! "
        "appsink drop=true max-buffers=1 sync=false"
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
