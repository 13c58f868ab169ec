"""RTSP cameras, played by GStreamer's server on the loopback."""

import logging
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from dff_edge.errors import SourceError
from dff_edge.runtime.sources import open_source
from tests.runtime.sources.streams import (
    LONG_S,
    assert_in_order,
    free_port,
    open_quickly,
    take,
    take_until,
    wait_for,
)

pytestmark = pytest.mark.usefixtures("short_timeouts")

SYSTEM_PYTHON = "/usr/bin/python3"
RTSP_SERVER = Path(__file__).with_name("rtsp_server.py")


class RtspServer:
    """GStreamer's, in a process of its own."""

    def __init__(self, port, *options):
        self.port = port
        self._process = subprocess.Popen(
            [SYSTEM_PYTHON, str(RTSP_SERVER), str(port), *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout.readline() == "ready\n"

    @property
    def address(self):
        return f"rtsp://127.0.0.1:{self.port}/stream"

    def say(self, command):
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()

    def kill(self):
        self._process.kill()
        self._process.wait(LONG_S)
        self._process.stdin.close()
        self._process.stdout.close()


@pytest.fixture
def start_rtsp():
    probe = (
        "import gi; gi.require_version('GstRtspServer', '1.0')\n"
        "from gi.repository import Gst, GstRtspServer; Gst.init(None)\n"
        "assert Gst.ElementFactory.find('x264enc') and Gst.ElementFactory.find('rtph264pay')"
    )
    if (
        not sys.platform.startswith("linux")
        or not Path(SYSTEM_PYTHON).exists()
        or subprocess.run([SYSTEM_PYTHON, "-c", probe], capture_output=True).returncode
    ):
        pytest.skip(
            "no GStreamer RTSP server: apt install python3-gi gir1.2-gst-rtsp-server-1.0 "
            "gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-ugly"
        )
    started = []

    def start(port=0, *options):
        started.append(RtspServer(port or free_port(), *options))
        return started[-1]

    yield start
    for server in started:
        server.kill()


class TestRtsp:
    @pytest.mark.parametrize("transport", ["tcp", "udp"])
    def test_plays(self, start_rtsp, transport):
        before = time.monotonic()
        with open_source(f"{start_rtsp().address}?transport={transport}") as source:
            frames = take(source, 10)

        assert_in_order(frames)
        assert {frame.image.shape for frame in frames} == {(120, 160, 3)}
        assert (source.fps, source.size, source.counts.failed) == (25, (120, 160), 0)
        assert frames[0].segment == frames[-1].segment == 0
        assert all(before < f.stamp_s <= time.monotonic() for f in frames)

    def test_killed_server_is_waited_for(self, start_rtsp):
        server = start_rtsp()
        with open_quickly(server.address) as source:
            frames = take(source, 3)
            server.kill()
            wait_for(source, "lost")
            start_rtsp(server.port)
            frames += take_until(source, lambda frame: frame.segment == 1)
            frames += take(source, 3)

        assert_in_order(frames)
        assert source.counts.reconnects == 1

    def test_changed_size_and_then_a_stall(self, start_rtsp):
        server = start_rtsp()
        with open_quickly(server.address) as source:
            take(source, 3)
            server.say("size 96 80")
            frames = take_until(source, lambda frame: frame.image.shape == (80, 96, 3))
            assert [frame.segment for frame in frames] == [0] * (len(frames) - 1) + [1]
            server.say("stall")
            wait_for(source, "stalled")
            taken = source.counts.read
            wait_for(source, "lost")
            assert source.counts.read == taken  # FFmpeg had a picture left, which is old by now

    def test_password_is_used_and_never_shown(self, start_rtsp, caplog, capfd):
        caplog.set_level(logging.DEBUG)
        server = start_rtsp(0, "--private")
        where = f"127.0.0.1:{server.port}/stream"
        with open_quickly(f"rtsp://robot:s3cret@{where}") as source:
            take(source, 2)
            server.kill()
            wait_for(source, "lost")
            time.sleep(0.1)

        assert f"rtsp://***@{where}" in caplog.text
        shown = (caplog.text, repr(source), source.uri, *map(repr, threading.enumerate()))
        shown += tuple(capfd.readouterr())  # of FFmpeg's own
        assert not any("s3cret" in text for text in shown)

    def test_wrong_password_is_an_error_that_does_not_show_it(self, start_rtsp):
        server = start_rtsp(0, "--private")
        with pytest.raises(SourceError, match=r"rtsp://\*\*\*@.*401.*user and password") as caught:
            open_source(f"rtsp://robot:wrong1@127.0.0.1:{server.port}/stream")

        assert "wrong1" not in str(caught.value)
        assert caught.value.__cause__ is caught.value.__context__ is None
