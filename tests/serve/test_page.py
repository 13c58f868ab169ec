"""The page in a real browser."""

import json
import subprocess
import sys
import textwrap

import cv2
import numpy as np
import pytest

from dff_edge.runtime.sinks import FanOut
from dff_edge.runtime.sinks.base import NullSink
from dff_edge.serve import server as server_module
from tests.serve.browser import CHROMIUM, Browser
from tests.serve.runs import result, served, served_several

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium: apt-get install chromium"),
]

PICTURE = "document.getElementById('image').naturalWidth > 0"
PHONE_PX, DESKTOP_PX = 390, 1280


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    browser = Browser(tmp_path_factory.mktemp("browser") / "profile")
    yield browser
    browser.close()


@pytest.fixture(autouse=True)
def page_is_left(browser):
    browser.console.clear()
    yield
    browser.call("Page.navigate", url="about:blank")


def text_of(browser, name):
    return browser.value(f"document.getElementById('{name}').textContent")


def wait_for_text(browser, name, text):
    browser.wait_for(f"document.getElementById('{name}').textContent.includes({json.dumps(text)})")


def test_picture_and_numbers_are_live(browser):
    sinks = FanOut(live=True)
    sinks.add(NullSink("null://"))
    with served(sinks=sinks) as (server, source):
        server.channels[0].show(result(0, shade=30))
        browser.open(server.url)
        browser.wait_for(PICTURE)
        wait_for_text(browser, "status", "Live")
        for index in range(1, 12):
            server.channels[0].show(result(index, shade=220))
            sinks.write(result(index))
        source.counts.read, source.counts.dropped, source.counts.reconnects = 12, 3, 2
        wait_for_text(browser, "keys-more", "3 of 12")
        wait_for_text(browser, "dropped", "3")
        wait_for_text(browser, "dropped-more", "20%")
        assert text_of(browser, "reconnects") == "2"
        assert text_of(browser, "age") == "20.0ms"
        assert text_of(browser, "source") == "camera 0"
        assert browser.value("document.querySelectorAll('#chart rect').length") == 12
        assert browser.value("document.querySelectorAll('#chart rect.key').length") == 3
        stages = browser.value("[...document.querySelectorAll('#stages th')].map(e => e.innerText)")
        assert stages == ["feature", "flow", "task"]  # in the order of the pipeline
        assert "null://" in text_of(browser, "sinks")
        assert text_of(browser, "classes") == "roadsky"
        # The later picture is shown, not the first one.
        browser.wait_for(
            """(() => {
                const canvas = document.createElement("canvas"), image = document.images[0];
                [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
                const context = canvas.getContext("2d");
                context.drawImage(image, 0, 0);
                return context.getImageData(48, 40, 1, 1).data[1] > 120;
            })()"""
        )
        assert browser.console == []  # of the policy, or of the script


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [320, PHONE_PX, 768, DESKTOP_PX])
def test_page_fits_its_width(browser, width, dark):
    sinks = FanOut(live=True)
    sinks.add(NullSink("/a/very/long/path/that/has/no/spaces/" + "x" * 80 + ".mp4"))
    with served(sinks=sinks) as (server, source):
        source.uri = "v4l2:///dev/" + "y" * 120
        for index in range(130):
            server.channels[0].show(result(index, size=(270, 480)))
        browser.open(server.url, width, 844, dark=dark)
        browser.wait_for(PICTURE)
        wait_for_text(browser, "fps-more", "latest")
        assert browser.value("innerWidth") == width
        assert browser.value("document.documentElement.scrollWidth") <= width
        shown = cv2.imdecode(np.frombuffer(browser.picture(), np.uint8), cv2.IMREAD_COLOR)
        assert (shown[-4:, 2:6].mean() < 60) == dark
        # No text is cut off or lies over another.
        assert browser.value(CUT_OFF) == []


CUT_OFF = """[...document.querySelectorAll("dd, dt, th, td, h2, li, p, span")]
    .filter((e) => !e.closest(".sr") && e.scrollWidth > e.clientWidth + 1 && e.clientWidth > 0
                   && getComputedStyle(e).display !== "inline")
    .map((e) => e.outerHTML)"""


def test_things_have_names_for_those_who_do_not_see_them(browser):
    with served() as (server, _):
        server.channels[0].show(result(0))
        browser.open(server.url)
        browser.wait_for(PICTURE)
        wait_for_text(browser, "keys-more", "1 of 1")
        tree = browser.call("Accessibility.getFullAXTree")["nodes"]

    named = {
        (node["role"]["value"], node["name"]["value"])
        for node in tree
        if not node["ignored"] and node.get("name", {}).get("value")
    }
    assert ("image", "Live picture, the colour of its class over each pixel") in named
    assert any(
        role in ("image", "img") and name.startswith("Latency of the latest 1 frames, 1 of them")
        for role, name in named
    )
    assert ("heading", "dff-edge") in named
    assert ("table", "Time of each stage of the pipeline") in named
    assert "status" in {node["role"]["value"] for node in tree if not node["ignored"]}
    assert browser.value("document.documentElement.lang") == "en"


@pytest.mark.parametrize(
    ("state", "short", "long"),
    [("lost", "Camera lost", "being connected anew"), ("stalled", "Camera stalled", "sends noth")],
)
def test_loss_of_the_camera_shows_and_goes(browser, state, short, long):
    with served() as (server, source):
        server.channels[0].show(result(0))
        browser.open(server.url)
        wait_for_text(browser, "status", "Live")
        source.state = state
        wait_for_text(browser, "status", short)
        assert long in text_of(browser, "note")
        assert browser.value("document.getElementById('picture').className") == "picture old"
        source.state = "live"
        server.channels[0].show(result(1))
        wait_for_text(browser, "status", "Live")
        assert browser.value("document.getElementById('note').hidden")


def test_loss_of_the_server_shows_and_the_page_recovers_by_itself(browser, tmp_path):
    code = """
        import sys, time
        from tests.serve.runs import result, served, served_several

        with served(f"127.0.0.1:{sys.argv[1]}") as (server, _):
            print(server.address.port, flush=True)
            for index in range(10**6):
                server.channels[0].show(result(index))
                time.sleep(0.02)
    """

    def start(port):
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code), str(port)],
            stdout=subprocess.PIPE,
            text=True,
        )
        return process, int(process.stdout.readline())

    process, port = start(0)
    try:
        browser.open(f"http://127.0.0.1:{port}/")
        wait_for_text(browser, "status", "Live")
        browser.wait_for(PICTURE)
        browser.wait_for("document.getElementById('kept').width == 96")
        process.kill()
        process.communicate()
        wait_for_text(browser, "status", "Connection lost")
        assert "Trying again" in text_of(browser, "note")
        process, _ = start(port)
        wait_for_text(browser, "status", "Live")
        browser.wait_for(PICTURE)
    finally:
        process.kill()
        process.communicate()


def test_end_of_the_run_shows_and_stays(browser):
    with served() as (server, _):
        server.channels[0].show(result(0))
        browser.open(server.url)
        wait_for_text(browser, "status", "Live")
        server.channels[0].finish("finished")
    # The server is gone now, and has said why before.
    assert text_of(browser, "status") == "Finished"
    assert "the source has ended" in text_of(browser, "note")
    browser.wait_for("performance.now() - answeredAt > 4000")  # longer than a loss needs to show
    assert text_of(browser, "status") == "Finished"


def test_hidden_page_costs_no_pictures(browser):
    def hide(is_hidden):
        browser.value(
            f"Object.defineProperty(document, 'hidden', {{get: () => {is_hidden}, "
            "configurable: true});"
            "document.dispatchEvent(new Event('visibilitychange'))"
        )

    with served() as (server, _):
        server.channels[0].show(result(0))
        browser.open(server.url)
        wait_for_text(browser, "footer", "1 of at most")
        hide("true")
        wait_for_text(browser, "footer", "0 of at most")
        hide("false")
        wait_for_text(browser, "footer", "1 of at most")
        browser.wait_for(PICTURE)


def test_too_many_viewers_are_told_so(browser, monkeypatch):
    monkeypatch.setattr(server_module, "MAX_VIEWERS", 0)
    with served() as (server, _):
        server.channels[0].show(result(0))
        browser.open(server.url)
        browser.wait_for("document.getElementById('note').textContent.includes('Waiting for a pl')")


def test_page_of_several_sources_shows_all_and_leads_to_each(browser):
    with served_several() as (server, sources):
        for number in (0, 1):
            server.channels[number].show(result(0, shade=40 + 160 * number))
        sources[1].state = "lost"
        server.channels[2].finish("failed", "no route to host")
        browser.open(server.url)
        browser.wait_for("document.querySelectorAll('article').length === 3")
        browser.wait_for("[0, 1].every((n) => document.images[n].naturalWidth > 0)")
        states = browser.value(
            "[...document.querySelectorAll('article .status')].map((e) => e.innerText)"
        )
        assert states == ["Live", "Camera lost", "Failed"]
        assert browser.value("document.querySelectorAll('.why')[2].innerText") == "no route to host"
        assert text_of(browser, "status") == "2 of 3 running, 2 in trouble"
        assert browser.value("document.documentElement.scrollWidth <= innerWidth")
        server.channels[0].show(result(1, shade=220))  # and it is renewed
        browser.wait_for(
            """(() => {
                const canvas = document.createElement("canvas"), image = document.images[0];
                [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
                const context = canvas.getContext("2d");
                context.drawImage(image, 0, 0);
                return context.getImageData(48, 40, 1, 1).data[1] > 120;
            })()"""
        )
        assert [line for line in browser.console if "404" not in line] == []
        browser.open(f"{server.url}?source=1")
        wait_for_text(browser, "source", "camera 1")
        assert browser.value("document.getElementById('all').hidden") is False
        browser.wait_for(PICTURE)
