"""Limits of the server of a run's page against slow, bad and many clients."""

import contextlib
import gc
import http.client
import re
import socket
import threading
import time

import numpy as np
import pytest

from dff_edge.serve import channel as channel_module
from dff_edge.serve import doorkeeper as doorkeeper_module
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
    monkeypatch.setattr(channel_module, "STALL_S", 2.0)
    monkeypatch.setattr(channel_module, "REPEAT_S", 0.01)
    noise = np.random.default_rng(0).integers(0, 256, (960, 960, 3), np.uint8)  # 700 kB as JPEG
    loud = result(0, size=(960, 960))
    loud.frame.image[:] = noise
    with served() as (server, _), Viewer(server, "good") as good:
        with socket.create_connection(("127.0.0.1", server.address.port)) as dead:
            dead.sendall(b"GET /stream.mjpg?viewer=dead HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            wait_until(lambda: numbers(server, "dead")["watching"])
            server.channels[0].show(loud)
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
            server.channels[0].show(result(0))
            assert third.picture()


def test_number_of_connections_is_bounded(monkeypatch):
    monkeypatch.setattr(server_module, "MAX_CONNECTIONS", 3)
    with served() as (server, _):
        with Client(server) as one, Client(server) as two, Client(server) as three:
            for client in (one, two, three):
                assert client.ask("/stats.json")[0] == 200
            status, headers, body = ask(server, "/stats.json")
            assert (status, headers["Retry-After"], headers["Connection"]) == (503, "10", "close")
            assert body == b"The page has as many connections as it may. Come back later.\n"
            assert one.ask("/stats.json")[0] == 200
        wait_until(lambda: _is_answered(server))


def test_number_of_those_that_are_refused_is_bounded_too(monkeypatch):
    monkeypatch.setattr(server_module, "MAX_CONNECTIONS", 2)
    monkeypatch.setattr(doorkeeper_module, "REFUSAL_S", 1.0)
    with served() as (server, _), Client(server) as one, Client(server) as two:
        for client in (one, two):
            assert client.ask("/stats.json")[0] == 200
        where = ("127.0.0.1", server.address.port)
        silent = [socket.create_connection(where, WAIT_S) for _ in range(2)]
        with socket.create_connection(where, WAIT_S) as late:  # no place to be told so
            assert _ends(late)
        for connection in silent:  # they say nothing, and are put out
            assert _ends(connection)
            connection.close()
        assert ask(server, "/")[0] == 503
        assert one.ask("/stats.json")[0] == 200


@pytest.mark.parametrize("path", ["/", "/nothing"])
def test_clients_that_ask_without_end_and_read_nothing_lose_their_places(monkeypatch, caplog, path):
    monkeypatch.setattr(server_module, "STALL_S", 1.0)
    monkeypatch.setattr(server_module, "IDLE_S", 60.0)  # not by this
    monkeypatch.setattr(server_module, "MAX_CONNECTIONS", 8)
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    with served() as (server, _):
        where = ("127.0.0.1", server.address.port)
        clients = [socket.create_connection(where, WAIT_S) for _ in range(8)]
        asking = [
            threading.Thread(target=_send_until_the_end, args=(client, request * 100))
            for client in clients
        ]
        for thread in asking:
            thread.start()
        wait_until(lambda: _is_answered(server))
        for thread in asking:
            thread.join(WAIT_S)
            assert not thread.is_alive()
        for client in clients:
            client.close()
    assert caplog.text == ""


def test_client_that_reads_slowly_but_reads_is_served(monkeypatch):
    monkeypatch.setattr(server_module, "STALL_S", 1.0)
    with served() as (server, _):
        with socket.create_connection(("127.0.0.1", server.address.port), WAIT_S) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            request = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
            client.sendall(request * 30)
            received, start_s = 0, time.monotonic()
            while received < 60_000 or time.monotonic() < start_s + 1.5:  # more than a stall
                data = client.recv(20_000)
                assert data
                received += len(data)


def test_requests_that_never_end_are_ended(monkeypatch):
    """Slowloris: a byte now and then."""
    monkeypatch.setattr(server_module, "IDLE_S", 1.0)
    starts = (b"GET /stats.json HTTP/1.1\r\nX-A: ", b"G", b"POST / HTTP/1.1\r\n")
    with served() as (server, _):
        where = ("127.0.0.1", server.address.port)
        clients = [socket.create_connection(where, 0.05) for _ in starts]
        for client, start in zip(clients, starts, strict=True):
            client.sendall(start)
        start_s = time.monotonic()
        for client in clients:
            while not _is_over(client):
                assert time.monotonic() < start_s + WAIT_S
                with contextlib.suppress(ConnectionError):
                    client.sendall(b"x")
            client.close()
        assert numbers(server)["state"] == "running"


def test_body_that_never_ends_is_ended(monkeypatch):
    monkeypatch.setattr(server_module, "IDLE_S", 1.0)
    monkeypatch.setattr(server_module, "LINGER_S", 1.0)
    with served() as (server, _):
        with socket.create_connection(("127.0.0.1", server.address.port), 0.05) as client:
            client.sendall(
                b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000000\r\n\r\n"
            )
            start_s = time.monotonic()
            while not _is_over(client):
                assert time.monotonic() < start_s + 7  # of 1 s; aiohttp waits for 10
                with contextlib.suppress(ConnectionError, TimeoutError):
                    client.sendall(bytes(1000))
        assert numbers(server)["state"] == "running"


def _is_over(client):
    """Whether the server has ended the connection; reads what came."""
    try:
        return client.recv(1 << 16) == b""
    except TimeoutError:
        return False
    except ConnectionError:
        return True


def _ends(client):
    try:
        return client.recv(1) == b""
    except ConnectionError:
        return True


def _send_until_the_end(client, data):
    with contextlib.suppress(OSError):
        while True:
            client.sendall(data)


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
            server.channels[0].show(result(0))
            assert viewer.picture()


def _is_answered(server):
    try:
        return ask(server, "/stats.json")[0] == 200
    except (ConnectionError, http.client.HTTPException):
        return False


OTHER_PATHS = (
    "/nothing",
    "/stream.mjpg/",
    "/..%2f..%2fetc/passwd",
    "//",
    "/../../etc/passwd",
    "/%2e%2e/%2e%2e/etc/passwd",
    "/page.html",
    "/server.py",
    "/stats.json/../../etc/passwd",
    "/..\\..\\etc",
    "/%00",
    "http://localhost/etc/passwd",
)


def test_other_paths_are_not_found():
    with served() as (server, _):
        assert {path: ask(server, path)[0] for path in OTHER_PATHS} == dict.fromkeys(
            OTHER_PATHS, 404
        )


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
        assert b"Use its IP address" in body
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


HOST = b"Host: localhost\r\n"
BAD_REQUESTS = {
    "rubbish": b"\x00\xff\r\n\r\n",
    "no host": b"GET /stats.json HTTP/1.1\r\n\r\n",
    "no version": b"GET / HTTP/9\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\n" + HOST + b"Host: evil.example\r\n\r\n",
    "two hosts, other order": b"GET / HTTP/1.1\r\nHost: evil.example\r\n" + HOST + b"\r\n",
}
HUGE_REQUESTS = {
    "huge header": b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"x" * 100_000 + b"\r\n\r\n",
    "many headers": b"GET / HTTP/1.1\r\n" + HOST + b"X: y\r\n" * 20_000 + b"\r\n",
    "long path": b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
}


def test_bad_requests_are_refused_and_the_server_goes_on(caplog):
    with served() as (server, _):
        for name, request in {**BAD_REQUESTS, **HUGE_REQUESTS}.items():
            with socket.create_connection(("127.0.0.1", server.address.port), WAIT_S) as client:
                try:
                    client.sendall(request)
                    answer = client.recv(1000)
                except ConnectionError:  # it was ended before all was sent
                    assert name in HUGE_REQUESTS
                    continue
            assert re.match(rb"HTTP/1.[01] 4\d\d ", answer), name
        assert numbers(server)["state"] == "running"
    assert caplog.text == ""


def test_hostile_viewer_name_stays_out():
    with served() as (server, _), Viewer(server, "%3Cscript%3E"):
        wait_until(lambda: numbers(server)["viewers"] == 1)
        assert not numbers(server, "%3Cscript%3E")["watching"]
        assert not numbers(server)["watching"]
