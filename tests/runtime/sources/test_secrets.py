"""Secrets of an address, in all that is shown of a camera: log, threads, errors, stderr."""

import logging
import threading

import pytest

from benchmarks._mjpeg_server import MjpegServer
from dff_edge.errors import DffEdgeError
from dff_edge.runtime.sources import open_source
from tests.runtime.sources.servers import RawServer, RtspScript, ok
from tests.runtime.sources.streams import free_port, open_quickly, take, wait_for

pytestmark = pytest.mark.usefixtures("short_timeouts")

SECRETS = ("s3cret", "%733cret")
FORMS = [
    "{scheme}://robot:s3cret@{host}/stream",
    "{scheme}://{host}/stream?p=s3cret",
    "{scheme}://{host}/stream?user=a&jwt=%733cret&x=1",
    "{scheme}://{host}/stream?session=s3cret&retry=0.1",
]


@pytest.fixture
def shown(caplog, capfd):
    """All that was shown so far, and thread names."""
    caplog.set_level(logging.DEBUG)

    def shown(*more):
        threads = " ".join(thread.name for thread in threading.enumerate())
        text = "\n".join((caplog.text, *capfd.readouterr(), threads, *map(repr, more)))
        assert not any(secret in text for secret in SECRETS), text
        return text

    return shown


@pytest.mark.parametrize("form", FORMS)
def test_camera_that_plays_and_is_lost(shown, form):
    with MjpegServer() as server:
        uri = form.format(scheme="http", host=f"127.0.0.1:{server.port}")
        with open_quickly(uri.replace("&retry=0.1", "")) as source:
            take(source, 2)
            shown(source, source.uri)
            server.stop()
            wait_for(source, "lost")
            assert f"camera http://{'***@' if '@' in form else ''}127.0.0.1" in shown(source)


@pytest.mark.parametrize("scheme", ["http", "https", "rtsp", "rtsps"])
@pytest.mark.parametrize("form", FORMS)
def test_camera_that_is_not_there(shown, form, scheme):
    uri = form.format(scheme=scheme, host=f"127.0.0.1:{free_port()}")
    with pytest.raises(DffEdgeError) as caught:
        open_source(uri)

    assert f"{scheme}://" in shown(caught.value, str(caught.value), caught.value.__cause__)


@pytest.mark.parametrize("form", FORMS)
def test_camera_that_speaks_nonsense(shown, form):
    def script(connection, head):
        connection.sendall(b"RTSP/1.0 500 s3cret\r\n\r\n")

    for scheme in ("rtsp", "http"):
        with RawServer(script) as server, pytest.raises(DffEdgeError) as caught:
            open_source(form.format(scheme=scheme, host=f"127.0.0.1:{server.port}"))
        shown(caught.value, str(caught.value))


def test_recording_that_breaks_off(shown):
    def script(connection, head):
        connection.sendall(ok("Content-Length: 99999") + b"\x00\x00\x00\x18ftypisom")

    with RawServer(script) as server:
        uri = f"http://robot:s3cret@127.0.0.1:{server.port}/v/s3cret.mp4?code=s3cret&retry=0.1"
        with pytest.raises(DffEdgeError, match="broke off") as caught:
            open_source(uri)
    shown(caught.value, str(caught.value))


def test_rtsp_camera_that_asks_for_a_password(shown):
    class Private(RtspScript):
        def _answer(self, connection, method, begin):
            begin = begin.replace(b"200 OK", b"401 Unauthorized")
            connection.sendall(begin + b'WWW-Authenticate: Basic realm="x"\r\n\r\n')

    with RawServer(Private("")) as server, pytest.raises(DffEdgeError, match="401") as caught:
        open_source(f"rtsp://robot:s3cret@127.0.0.1:{server.port}/stream/s3cret")
    shown(caught.value, str(caught.value))


def test_pipeline_that_does_not_start(shown):
    with pytest.raises(DffEdgeError) as caught:
        open_source(
            "gst://rtspsrc location=rtsp://a:s3cret@h/x user-pw=s3cret ! fakesink pin=s3cret"
        )
    assert "gst://rtspsrc *** ! fakesink ***" in shown(caught.value, str(caught.value))
