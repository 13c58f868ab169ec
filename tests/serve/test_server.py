"""The server of a run's page, spoken to by plain HTTP clients: good ones, slow ones, bad ones."""

import base64
import gc
import hashlib
import http.client
import json
import re
import socket
import sys
import threading
import time

import cv2
import numpy as np
import pytest

from dff_edge.runtime.errors import MissingDependencyError, SinkError
from dff_edge.serve import server as server_module
from tests.serve.runs import COLOURS, result, served

WAIT_S = 20  # for what must happen; far more than it takes
SHADE_ATOL = 6  # of 255: lossy coding
PART_START = b"--dff-edge-the-next-picture\r\nContent-Type: image/jpeg\r\n\r\n"


@pytest.fixture(autouse=True)
def nothing_is_left():
    yield
    assert not [thread for thread in threading.enumerate() if thread.name == "dff-serve"]
    gc.collect()  # a socket or loop that was left open warns now, and a warning is an error


class Client(http.client.HTTPConnection):
    """One connection to the server."""

    def __init__(self, server):
        super().__init__("127.0.0.1", server.address.port, timeout=WAIT_S)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def ask(self, path, method="GET", **headers):
        """Give status, headers and body."""
        self.request(method, path, headers={k.replace("_", "-"): v for k, v in headers.items()})
        answer = self.getresponse()
        return answer.status, answer.headers, answer.read()


class Viewer(Client):
    """Watches the stream."""

    def __init__(self, server, name="viewer"):
        super().__init__(server)
        self.request("GET", f"/stream.mjpg?viewer={name}")
        self.answer = self.getresponse()
        self._read = b""

    def picture(self):
        """The next picture; it is over when the start of the one behind it is there."""
        while (end := self._read.find(b"\r\n" + PART_START)) < 0:
            data = self.answer.read1(1 << 20)
            assert data, "the stream has ended"
            self._read += data
        part, self._read = self._read[:end], self._read[end + 2 :]
        assert part.startswith(PART_START)
        return part[len(PART_START) :]

    def pictures_until_the_end(self):
        while True:
            self.picture()

    def shade(self):
        """Grey value of the frame under the next picture."""
        image = cv2.imdecode(np.frombuffer(self.picture(), np.uint8), cv2.IMREAD_COLOR)
        return 2 * image[40, 48].mean() - np.mean(COLOURS[0])

    def close(self):
        if hasattr(self, "answer"):
            self.answer.close()
        super().close()


def ask(server, path, method="GET", **headers):
    with Client(server) as client:
        return client.ask(path, method, **headers)


def numbers(server, viewer=""):
    status, _, body = ask(server, f"/stats.json?viewer={viewer}")
    assert status == 200
    return json.loads(body)


def wait_until(condition):
    end_s = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.02)  # of another thread, seen only by asking


@pytest.fixture
def draws(monkeypatch):
    """Counts the pictures that are drawn."""
    drawn = []
    draw = server_module.draw_jpeg

    def count(result, colours):
        drawn.append(result.frame.index)
        return draw(result, colours)

    monkeypatch.setattr(server_module, "draw_jpeg", count)
    return drawn


def test_page_needs_nothing_from_elsewhere_and_its_policy_allows_just_that():
    with served() as (server, _):
        status, headers, body = ask(server, "/")

    page = body.decode()
    policy = headers["Content-Security-Policy"]
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert set(re.findall(r"https?://[^'\"\s]+", page)) == {"http://www.w3.org/2000/svg"}
    assert re.findall(r"\s(?:style|on\w+)=", page) == []  # the policy would not allow them
    for tag in ("style", "script"):
        (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert headers["Cache-Control"] == "no-store"
    assert "Access-Control-Allow-Origin" not in headers


def test_numbers_are_those_of_the_run():
    with served() as (server, source):
        for index in range(7):
            server.show(result(index))
        source.state = "stalled"
        shown = numbers(server)

    assert (shown["frames"], shown["key_frames"], shown["state"]) == (7, 2, "running")
    assert shown["source"]["state"] == "stalled"
    assert (shown["viewers"], shown["most_viewers"], shown["watching"]) == (0, 8, False)


def test_viewer_sees_the_newest_result():
    with served() as (server, _):
        server.show(result(0, shade=10))
        server.show(result(1, shade=200))
        with Viewer(server) as viewer:
            assert viewer.shade() == pytest.approx(200, abs=SHADE_ATOL)
            server.show(result(2, shade=20))
            server.show(result(3, shade=90))
            assert viewer.shade() == pytest.approx(90, abs=SHADE_ATOL)
        server.show(result(4, shade=160))
        wait_until(lambda: numbers(server)["viewers"] == 0)
        with Viewer(server) as viewer:
            assert viewer.shade() == pytest.approx(160, abs=SHADE_ATOL)


def test_viewer_waits_for_the_first_result():
    with served() as (server, _), Viewer(server, "early") as viewer:
        wait_until(lambda: numbers(server, "early")["watching"])
        assert not numbers(server, "other")["watching"]
        server.show(result(0))
        assert viewer.picture()


def test_nothing_is_drawn_while_nobody_watches(draws):
    with served() as (server, _):
        for index in range(50):
            server.show(result(index))
        assert numbers(server)["frames"] == 50
        assert draws == []
        with Viewer(server) as viewer:
            viewer.picture()
        wait_until(lambda: numbers(server)["viewers"] == 0)
        assert draws == [49]


def test_viewers_share_a_drawing(draws):
    with (
        served() as (server, _),
        Viewer(server) as one,
        Viewer(server) as two,
        Viewer(server) as three,
    ):
        wait_until(lambda: numbers(server)["viewers"] == 3)
        for index in range(5):
            server.show(result(index))
            pictures = {viewer.picture() for viewer in (one, two, three)}
            assert len(pictures) == 1
        assert draws == list(range(5))


def test_pictures_come_at_the_stated_rate_at_most(draws):
    with served() as (server, _), Viewer(server) as viewer:
        start = time.monotonic()
        for index in range(6):
            server.show(result(index))
            viewer.picture()
        assert time.monotonic() - start > 5 / server_module.PICTURES_PER_S * 0.9


def test_viewer_that_reads_nothing_holds_up_nobody_and_is_put_out(monkeypatch, caplog):
    monkeypatch.setattr(server_module, "STALL_S", 0.5)
    monkeypatch.setattr(server_module, "REPEAT_S", 0.01)
    noise = np.random.default_rng(0).integers(0, 256, (960, 960, 3), np.uint8)  # 700 kB as JPEG
    loud = result(0, size=(960, 960))
    loud.frame.image[:] = noise
    with served() as (server, _), Viewer(server, "good") as good:
        with socket.create_connection(("127.0.0.1", server.address.port)) as dead:
            dead.sendall(b"GET /stream.mjpg?viewer=dead HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            wait_until(lambda: numbers(server, "dead")["watching"])
            server.show(loud)
            while numbers(server, "dead")["watching"]:
                good.picture()
        assert numbers(server, "good")["watching"]
    assert caplog.text == ""


def test_number_of_viewers_is_bounded(monkeypatch):
    monkeypatch.setattr(server_module, "MAX_VIEWERS", 2)
    with served() as (server, _), Viewer(server), Viewer(server) as second:
        wait_until(lambda: numbers(server)["viewers"] == 2)
        status, headers, body = ask(server, "/stream.mjpg")
        assert (status, headers["Retry-After"]) == (503, "10")
        assert b"2 viewers are watching" in body
        second.close()
        wait_until(lambda: numbers(server)["viewers"] == 1)
        with Viewer(server) as third:
            server.show(result(0))
            assert third.picture()


def test_number_of_connections_is_bounded(monkeypatch):
    monkeypatch.setattr(server_module, "MAX_CONNECTIONS", 3)
    with served() as (server, _):
        with Client(server) as one, Client(server) as two, Client(server) as three:
            for client in (one, two, three):
                assert client.ask("/stats.json")[0] == 200
            with pytest.raises((ConnectionError, http.client.HTTPException)):
                ask(server, "/stats.json")
            assert one.ask("/stats.json")[0] == 200
        wait_until(lambda: _is_answered(server))


def _is_answered(server):
    try:
        return ask(server, "/stats.json")[0] == 200
    except (ConnectionError, http.client.HTTPException):
        return False


@pytest.mark.parametrize("path", ["/nothing", "/stream.mjpg/", "/..%2f..%2fetc/passwd", "//"])
def test_other_paths_are_not_found(path):
    with served() as (server, _):
        assert ask(server, path)[0] == 404


@pytest.mark.parametrize("path", ["/", "/stats.json", "/stream.mjpg"])
@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "DELETE", "OPTIONS"])
def test_everything_is_read_only(path, method):
    with served() as (server, _):
        status, headers, _ = ask(server, path, method)
        assert (status, headers["Allow"]) == (405, "GET")
        assert "Access-Control-Allow-Origin" not in headers


@pytest.mark.parametrize("path", ["/", "/stats.json", "/stream.mjpg", "/nothing"])
def test_strangers_name_is_refused(path):
    with served() as (server, _):
        status, headers, body = ask(server, path, Host="evil.example")
        assert status == 421
        assert b"by its IP address" in body
        assert "Content-Security-Policy" in headers


def test_own_name_is_answered_whatever_port_it_was_forwarded_to():
    with served() as (server, _):
        assert ask(server, "/stats.json", Host="localhost:9999")[0] == 200


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_other_sites_may_link_to_the_page_but_not_embed_the_stream(site):
    with served() as (server, _):
        assert ask(server, "/stream.mjpg", Sec_Fetch_Site=site)[0] == 403
        assert ask(server, "/stats.json", Sec_Fetch_Site=site)[0] == 403
        assert ask(server, "/", Sec_Fetch_Site=site)[0] == 200
        assert ask(server, "/stats.json", Sec_Fetch_Site="same-origin")[0] == 200


@pytest.mark.parametrize(
    "request_text",
    [b"\x00\xff\r\n\r\n", b"GET /stats.json HTTP/1.1\r\n\r\n", b"GET / HTTP/9\r\n\r\n"]
    + [b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 100_000 + b"\r\n\r\n"],
    ids=["rubbish", "no host", "no version", "huge header"],
)
def test_bad_request_is_refused_and_the_server_goes_on(request_text, caplog):
    with served() as (server, _):
        with socket.create_connection(("127.0.0.1", server.address.port), WAIT_S) as client:
            client.sendall(request_text)
            assert re.match(rb"HTTP/1.[01] 4\d\d ", client.recv(1000))
        assert numbers(server)["state"] == "running"
    assert caplog.text == ""


def test_hostile_viewer_name_stays_out():
    with served() as (server, _), Viewer(server, "%3Cscript%3E"):
        wait_until(lambda: numbers(server)["viewers"] == 1)
        assert not numbers(server, "%3Cscript%3E")["watching"]
        assert not numbers(server)["watching"]


def test_end_of_the_run_is_told_to_an_open_page():
    with served() as (server, _):
        server.show(result(0))
        assert numbers(server)["state"] == "running"
        server.finish("finished")
        closing = threading.Thread(target=server.close)
        closing.start()
        assert numbers(server)["state"] == "finished"
        closing.join(WAIT_S)
        assert not closing.is_alive()


def test_error_in_a_block_is_told_to_an_open_page():
    with served() as (server, _):
        assert numbers(server)["state"] == "running"
        error = ValueError("the camera burnt")
        closing = threading.Thread(target=server.__exit__, args=(ValueError, error, None))
        closing.start()
        wait_until(lambda: numbers(server)["state"] == "failed")
        assert numbers(server)["reason"] == "the camera burnt"
        closing.join(WAIT_S)


def test_without_a_page_the_end_is_not_waited_for():
    with served() as (server, _):
        server.finish("finished")
        start = time.monotonic()
        server.close()
        assert time.monotonic() - start < server_module.FAREWELL_S


def test_close_ends_viewers_good_and_dead_and_frees_the_port():
    with served() as (server, _):
        port = server.address.port
        loud = result(0, size=(960, 960))
        loud.frame.image[:] = np.random.default_rng(0).integers(0, 256, (960, 960, 3), np.uint8)
        dead = Viewer(server, "dead")
        with Viewer(server) as good:
            server.show(loud)
            good.picture()
            server.close()
            server.close()
            with pytest.raises((AssertionError, ConnectionError, http.client.HTTPException)):
                good.pictures_until_the_end()
        dead.close()
    socket.create_server(("127.0.0.1", port)).close()
    server.show(result(1))  # harmless


def test_busy_port_is_told():
    with served() as (server, _):
        address = f"127.0.0.1:{server.address.port}"
        with pytest.raises(SinkError, match="the port is in use"), served(address):
            pass


def test_missing_library_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'dff-edge\[serve\]'"), served():
        pass


def test_open_to_others_only_when_asked_for():
    with served("127.0.0.1:0") as (server, _):
        assert not server.is_open_to_others
        assert server.url == f"http://127.0.0.1:{server.address.port}/"
    with served("0.0.0.0:0") as (server, _):
        assert server.is_open_to_others
        assert server.url == f"http://{socket.gethostname()}:{server.address.port}/"
        assert ask(server, "/", Host=socket.gethostname())[0] == 200


def test_server_that_breaks_leaves_the_run_alone(monkeypatch, caplog):
    def break_down(result, colours):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(server_module, "draw_jpeg", break_down)
    with served() as (server, _):
        with Viewer(server):
            server.show(result(0))
            server._thread.join(WAIT_S)
        server.show(result(1))
        server.finish("finished")
    assert "the run goes on" in caplog.text
