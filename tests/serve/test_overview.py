"""The page of several sources, by plain clients; in a browser: test_page."""

import json

import cv2
import numpy as np
import pytest

from dff_edge.serve import channel as channel_module
from tests.serve.clients import Viewer, ask, numbers
from tests.serve.runs import result, served_several

SHADE_ATOL = 6  # of 255: lossy coding


def shade(server, number):
    status, headers, body = ask(server, f"/picture.jpg?source={number}")
    assert (status, headers["Content-Type"]) == (200, "image/jpeg")
    image = cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_COLOR)
    return image[image.shape[0] // 2, image.shape[1] // 2].mean()


def test_every_source_has_its_own_numbers_and_pictures():
    with served_several() as (server, sources):
        for index in range(6):
            server.channels[0].show(result(index, shade=20))
        server.channels[1].show(result(0, shade=220))
        sources[1].state = "lost"
        told = json.loads(ask(server, "/sources.json")[2])["sources"]
        assert [(n["source"], n["frames"], n["camera"]) for n in told] == [
            ("camera 0", 6, "live"),
            ("camera 1", 1, "lost"),
            ("camera 2", 0, None),
        ]
        status, _, body = ask(server, "/stats.json?source=1&viewer=me")
        one = json.loads(body)
        assert (status, one["source"], one["sources"]) == (200, "camera 1", 3)
        assert numbers(server)["source"] == "camera 0"
        assert shade(server, 1) - shade(server, 0) > 80
        assert ask(server, "/picture.jpg?source=2")[0] == 404
        with Viewer(server) as viewer:  # of the first
            assert viewer.picture()
            assert not json.loads(ask(server, "/stats.json?source=1&viewer=")[2])["watching"]


@pytest.mark.parametrize("number", ["3", "-1", "x", "", "99999", "1e0"])
@pytest.mark.parametrize("path", ["/", "/stats.json", "/picture.jpg", "/stream.mjpg"])
def test_a_source_that_does_not_exist_is_told(path, number):
    with served_several() as (server, _):
        status, _, body = ask(server, f"{path}?source={number}")
        assert status == 404
        assert b"expected a number from 0 to 2" in body


def test_the_page_of_all_is_first_and_each_has_its_own():
    with served_several() as (server, _):
        overview, one = (ask(server, path) for path in ("/", "/?source=1"))
    assert b"sources.json" in overview[2]
    assert b"stream.mjpg" in one[2]
    assert overview[1]["Content-Security-Policy"] != one[1]["Content-Security-Policy"]
    for _, headers, _ in (overview, one):
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "unsafe" not in headers["Content-Security-Policy"]


def test_pictures_are_drawn_when_asked_for_and_at_the_stated_rate_at_most(monkeypatch):
    drawn, draw = [], channel_module.draw_jpeg

    def count(result, *how):
        drawn.append(result.frame.index)
        return draw(result, *how)

    monkeypatch.setattr(channel_module, "draw_jpeg", count)
    monkeypatch.setattr(channel_module, "PICTURES_PER_S", 1e-3)
    with served_several() as (server, _):
        for index in range(5):
            server.channels[0].show(result(index))
        assert drawn == []
        for index in range(5, 8):
            assert ask(server, "/picture.jpg")[0] == 200
            server.channels[0].show(result(index))
        assert drawn == [4]
        monkeypatch.setattr(channel_module, "PICTURES_PER_S", 1e9)
        assert ask(server, "/picture.jpg")[0] == 200
        assert ask(server, "/picture.jpg")[0] == 200
        assert drawn == [4, 7]


def test_the_end_is_waited_for_until_every_source_has_ended():
    with served_several() as (server, _):
        server.channels[0].finish("finished")
        assert server._finished_s is None
        for channel in server.channels[1:]:
            channel.finish("failed", "gone")
        assert server._finished_s == max(channel.finished_s for channel in server.channels)
