"""What slow, bad and many clients can do to the server of a run's page."""

import gc
import http.client
import re
import socket
import threading
import time

import numpy as np
import pytest

from dff_edge.serve import server as server_module
from tests.serve.clients import WAIT_S, Client, Viewer, ask, numbers, wait_until
from tests.serve.runs import result, served


@pytest.fixture(autouse=True)
def nothing_is_left():
    yield
    assert not [thread for thread in threading.enumerate() if thread.name == "dff-serve"]
    gc.collect()  # a socket or loop that was left open warns now, and a warning is an error


def test_viewer_that_reads_nothing_holds_up_nobody_and_is_put_out(monkeypatch, caplog):
    monkeypatch.setattr(server_module, "STALL_S", 2.0)
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


def test_connection_that_asks_for_nothing_is_ended(monkeypatch):
    monkeypatch.setattr(server_module, "IDLE_S", 1.0)
    monkeypatch.setattr(server_module, "MAX_CONNECTIONS", 2)
    with served() as (server, _):
        where = ("127.0.0.1", server.address.port)
        with socket.create_connection(where, WAIT_S) as one, Client(server) as two:
            assert two.ask("/stats.json")[0] == 200
            assert one.recv(1) == b""
            assert two.sock.recv(1) == b""
            assert _is_answered(server)


def test_viewer_is_not_taken_for_idle(monkeypatch):
    monkeypatch.setattr(server_module, "IDLE_S", 0.5)
    with served() as (server, _), Viewer(server) as viewer:
        end_s = time.monotonic() + 1.5
        while time.monotonic() < end_s:
            server.show(result(0))
            assert viewer.picture()


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
