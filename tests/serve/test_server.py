"""The server of a run's page, spoken to by plain HTTP clients."""

import base64
import gc
import hashlib
import http.client
import re
import socket
import threading
import time

import numpy as np
import pytest

from dff_edge.errors import MissingDependencyError, SinkError
from dff_edge.serve import channel as channel_module
from dff_edge.serve import server as server_module
from tests.serve.clients import WAIT_S, Viewer, ask, numbers, wait_until
from tests.serve.runs import result, served

SHADE_ATOL = 6  # of 255: lossy coding


@pytest.fixture(autouse=True)
def nothing_is_left():
    yield
    assert not [thread for thread in threading.enumerate() if thread.name == "dff-serve"]
    gc.collect()  # a socket or loop that was left open warns now, and a warning is an error


@pytest.fixture
def draws(monkeypatch):
    """Counts the pictures that are drawn."""
    drawn = []
    draw = channel_module.draw_jpeg

    def count(result, *how):
        drawn.append(result.frame.index)
        return draw(result, *how)

    monkeypatch.setattr(channel_module, "draw_jpeg", count)
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
            server.channels[0].show(result(index))
        source.state = "stalled"
        shown = numbers(server)

    assert (shown["frames"], shown["key_frames"], shown["state"]) == (7, 2, "running")
    assert shown["camera"] == "stalled"
    assert (shown["viewers"], shown["most_viewers"], shown["watching"]) == (0, 8, False)


def test_viewer_sees_the_newest_result():
    with served() as (server, _):
        server.channels[0].show(result(0, shade=10))
        server.channels[0].show(result(1, shade=200))
        with Viewer(server) as viewer:
            assert viewer.shade() == pytest.approx(200, abs=SHADE_ATOL)
            server.channels[0].show(result(2, shade=20))
            server.channels[0].show(result(3, shade=90))
            assert viewer.shade() == pytest.approx(90, abs=SHADE_ATOL)
        server.channels[0].show(result(4, shade=160))
        wait_until(lambda: numbers(server)["viewers"] == 0)
        with Viewer(server) as viewer:
            assert viewer.shade() == pytest.approx(160, abs=SHADE_ATOL)


def test_viewer_waits_for_the_first_result():
    with served() as (server, _), Viewer(server, "early") as viewer:
        wait_until(lambda: numbers(server, "early")["watching"])
        assert not numbers(server, "other")["watching"]
        server.channels[0].show(result(0))
        assert viewer.picture()


def test_nothing_is_drawn_while_nobody_watches(draws):
    with served() as (server, _):
        for index in range(50):
            server.channels[0].show(result(index))
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
            server.channels[0].show(result(index))
            pictures = {viewer.picture() for viewer in (one, two, three)}
            assert len(pictures) == 1
        assert draws == list(range(5))


def test_pictures_come_at_the_stated_rate_at_most(draws):
    with served() as (server, _), Viewer(server) as viewer:
        start = time.monotonic()
        for index in range(6):
            server.channels[0].show(result(index))
            viewer.picture()
        assert time.monotonic() - start > 5 / channel_module.PICTURES_PER_S * 0.9


def test_end_of_the_run_is_told_to_an_open_page():
    with served() as (server, _):
        server.channels[0].show(result(0))
        assert numbers(server)["state"] == "running"
        server.channels[0].finish("finished")
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
        assert numbers(server)["failure"] == "the camera burnt"
        closing.join(WAIT_S)


def test_without_a_page_the_end_is_not_waited_for():
    with served() as (server, _):
        server.channels[0].finish("finished")
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
            server.channels[0].show(loud)
            good.picture()
            server.close()
            server.close()
            with pytest.raises((AssertionError, ConnectionError, http.client.HTTPException)):
                good.pictures_until_the_end()
        dead.close()
    socket.create_server(("127.0.0.1", port)).close()
    server.channels[0].show(result(1))  # harmless


def test_close_ends_a_viewer_whose_next_picture_comes_at_that_moment(monkeypatch):
    """Before Python 3.12 the viewer's wait took the picture and lost the cancel: close hung."""
    draw = channel_module.draw_jpeg

    def draw_at_the_end(result, *how):
        server._loop.call_soon_threadsafe(server._stop.set)
        return draw(result, *how)

    monkeypatch.setattr(channel_module, "draw_jpeg", draw_at_the_end)
    with served() as (server, _), Viewer(server, "waits"):
        wait_until(lambda: numbers(server, "waits")["watching"])
        server.channels[0].show(result(0))
        server._thread.join(WAIT_S / 2)
        closing = threading.Thread(target=server.close)
        closing.start()
        closing.join(WAIT_S / 2)
        assert not closing.is_alive()


def test_busy_port_is_told():
    with served() as (server, _):
        address = f"127.0.0.1:{server.address.port}"
        with pytest.raises(SinkError, match="the port is in use"), served(address):
            pass


def test_missing_library_is_told(without):
    without("aiohttp")
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
    def break_down(result, *how):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(channel_module, "draw_jpeg", break_down)
    with served() as (server, _):
        with Viewer(server):
            server.channels[0].show(result(0))
            server._thread.join(WAIT_S)
        server.channels[0].show(result(1))
        server.channels[0].finish("finished")
    assert "the run goes on" in caplog.text
