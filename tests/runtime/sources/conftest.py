"""Sources that several test files open."""

import pytest

from dff_edge.runtime.sources.camera import CameraSource
from dff_edge.runtime.sources.network import limits
from tests.runtime.sources.cameras import CALM, Cameras, FakeCapture
from tests.runtime.sources.streams import READ_S


@pytest.fixture
def short_timeouts(monkeypatch):
    """Of network cameras; and no proxy."""
    monkeypatch.setattr(limits, "READ_TIMEOUT_S", READ_S)
    monkeypatch.setattr(limits, "OPEN_TIMEOUT_S", 2.0)
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)


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
