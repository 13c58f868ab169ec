"""Several sources at once: each to its own end, whatever becomes of the others."""

import json
import logging
import os
import signal
import threading
import time
from collections import deque

import numpy as np
import pytest

from dff_edge.errors import ConfigError, SourceError
from dff_edge.frames import Frame
from dff_edge.runtime import live
from dff_edge.runtime.live import Runner, RunOptions
from dff_edge.runtime.sources import LiveSource
from dff_edge.runtime.together import run_together
from tests.bundle.bundles import make_bundle
from tests.workers import running_workers

SCENE = "synthetic://street?frames={}&height=32&width=64&seed={}"
WAIT_S = 20  # of a wait that ends at once when the code is right
LATEST = 5  # frames of the endless camera after which the test ends it


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("bundle") / "small", (32, 64))


@pytest.fixture(autouse=True)
def nothing_is_left():
    yield
    assert not running_workers()


class Camera(LiveSource):
    """Gives frames as fast as they are taken, until the test says so, or for ever."""

    def __init__(self, uri, frames=None, failure=None):
        super().__init__(uri)
        self._frames, self._end = frames, failure
        self.given = 0

    @property
    def state(self):
        return "closed" if self.given == self._frames else "live"

    def read(self, timeout_s):
        if self.given == self._frames:
            if self._end is not None:
                raise self._end
            return None
        self.given += 1
        self.counts.read += 1
        image = np.full((48, 96, 3), 100, np.uint8)
        return Frame(image, self.given - 1, time.monotonic(), live=True)

    def close(self):
        pass


@pytest.fixture
def cameras(monkeypatch):
    """Cameras by their URIs; others cannot be opened."""
    known = {}

    def open_source(uri):
        if uri not in known:
            raise SourceError(f"there is no camera {uri}.")
        return known[uri]

    monkeypatch.setattr(live, "open_source", open_source)
    return known


class Watcher:
    def __init__(self):
        self.calls, self.results = deque(), 0

    def begin(self, source, sinks):
        self.calls.append(("begin", source.uri))

    def show(self, result):
        self.results += 1

    def finish(self, state, reason=None):
        self.calls.append(("finish", state, reason))


def test_recordings_give_what_they_give_one_after_another(bundle, tmp_path):
    sources = [SCENE.format(6, 1), SCENE.format(9, 2)]
    options = RunOptions(policy="fixed:4", depth=1, threads=2)
    with Runner(bundle, options) as runner:
        for number, source in enumerate(sources, start=1):
            runner.run(source, [f"labels://{tmp_path}/one-{number}"])
    reports = run_together(
        bundle, sources, [f"labels://{tmp_path}/{{name}}", f"{tmp_path}/{{name}}.jsonl"], options
    )
    assert [(report.source, report.state) for report in reports] == [
        (source, "finished") for source in sources
    ]
    assert [report.numbers["frames"] for report in reports] == [6, 9]
    for alone, together in (("one-1", "street"), ("one-2", "street-2")):
        names = sorted(os.listdir(tmp_path / alone))
        assert sorted(os.listdir(tmp_path / together)) == names
        assert len(names) in (6, 9)
        for name in names:
            written = [(tmp_path / folder / name).read_bytes() for folder in (alone, together)]
            assert written[0] == written[1]
    keys = [
        [json.loads(line)["key_index"] for line in (tmp_path / name).read_text().splitlines()]
        for name in ("street.jsonl", "street-2.jsonl")
    ]
    assert keys == [[0, 0, 0, 0, 4, 4], [0, 0, 0, 0, 4, 4, 4, 4, 8]]


def test_what_becomes_of_one_does_not_touch_the_others(bundle, cameras, tmp_path, caplog):
    cameras["0"] = Camera("camera 0", 3, SourceError("camera 0 was given up."))
    cameras["1"] = Camera("camera 1", 40)
    cameras["3"] = Camera("camera 3", 30)
    (tmp_path / "camera3.jsonl").symlink_to("/dev/full")
    watchers = [Watcher() for _ in range(4)]
    reports = run_together(
        bundle,
        ["0", "1", "2", "3"],
        [f"{tmp_path}/{{name}}.jsonl"],
        RunOptions(threads=1),
        watchers=watchers,
    )
    assert [report.state for report in reports] == ["failed", "finished", "failed", "finished"]
    assert reports[0].failure == "camera 0 was given up."
    assert reports[0].numbers["frames"] == 3
    assert reports[1].failure is None
    assert reports[1].numbers["frames"] == 40
    assert len((tmp_path / "camera1.jsonl").read_text().splitlines()) == 40
    assert reports[2].failure == "there is no camera 2."
    assert reports[2].numbers == {"source": "2", "state": "failed", "failure": reports[2].failure}
    assert "no room is left" in reports[3].failure
    assert watchers[0].calls[-1] == ("finish", "failed", "camera 0 was given up.")
    assert list(watchers[1].calls) == [("begin", "camera 1"), ("finish", "finished", None)]
    assert watchers[1].results == 40
    assert list(watchers[2].calls) == [("finish", "failed", "there is no camera 2.")]
    assert watchers[3].results == 30  # it is watched, though its output is gone
    assert "0: camera 0 was given up." in caplog.text
    assert "2: there is no camera 2." in caplog.text


def test_a_fault_of_the_program_in_one_leaves_the_others_alone(bundle, cameras, caplog):
    cameras["0"], cameras["1"] = Camera("camera 0", 5), Camera("camera 1", 5)

    def opened(number, run):
        if number == 0:
            raise ZeroDivisionError("a bug")

    with caplog.at_level(logging.ERROR):
        reports = run_together(bundle, ["0", "1"], options=RunOptions(threads=1), opened=opened)
    assert [report.state for report in reports] == ["failed", "finished"]
    assert reports[0].failure == "ZeroDivisionError: a bug"
    assert "Traceback" in caplog.text


def test_ctrl_c_stops_all(bundle, cameras):
    cameras["0"], cameras["1"] = Camera("camera 0"), Camera("camera 1")
    told = []

    def progress(done, total):
        told.append(done)
        if all(camera.given > LATEST for camera in cameras.values()):
            signal.raise_signal(signal.SIGINT)

    reports = run_together(bundle, ["0", "1"], options=RunOptions(threads=1), progress=progress)
    assert [(report.state, report.failure) for report in reports] == [("stopped", None)] * 2
    assert min(report.numbers["frames"] for report in reports) > LATEST
    assert told == sorted(told)


def test_frames_are_counted_by_source(bundle, cameras):
    cameras["0"], cameras["1"] = Camera("camera 0"), Camera("camera 1")
    reports = run_together(bundle, ["0", "1"], options=RunOptions(threads=1, frames=7))
    assert [(r.state, r.numbers["frames"]) for r in reports] == [("finished", 7)] * 2


def test_a_window_is_refused(bundle):
    with pytest.raises(ConfigError, match="watch several in a browser"):
        run_together(bundle, ["0", "1"], ["display://"])


def test_a_pipeline_ends_with_its_source(bundle, cameras):
    """The others may go on for weeks."""
    cameras["0"], cameras["1"] = Camera("camera 0", 2), Camera("camera 1")
    before, ended = threading.active_count(), []

    def progress(done, total):
        if len(running_workers()) == 5:  # one run, and the four streams of its pipeline
            ended.append("camera 0")
            signal.raise_signal(signal.SIGINT)

    timer = threading.Timer(WAIT_S, signal.raise_signal, (signal.SIGINT,))
    timer.start()
    reports = run_together(bundle, ["0", "1"], options=RunOptions(threads=1), progress=progress)
    timer.cancel()
    assert ended == ["camera 0"]
    assert [report.state for report in reports] == ["finished", "stopped"]
    assert threading.active_count() <= before + 1
