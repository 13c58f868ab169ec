"""dff-edge run on a camera that pauses, fails and ends as the test says."""

import json
import logging
import time

import cv2
import numpy as np
import pytest

from dff_edge.errors import SourceError
from dff_edge.frames import Frame
from dff_edge.runtime import live
from dff_edge.runtime.sources import LiveSource
from dff_edge.serve.channel import Channel

PAUSE_S = 0.01


class ScriptedCamera(LiveSource):
    """Gives frames, pauses (None) and errors in turn, then ends."""

    def __init__(self, *script):
        super().__init__("camera 0")
        self.script = list(script)

    @property
    def state(self):
        return "live" if self.script else "closed"

    def _take(self, timeout_s):
        while self.script:
            step = self.script.pop(0)
            if isinstance(step, Exception):
                raise step
            if step is not None:
                self.counts.read += 1
                return step
            time.sleep(PAUSE_S)
            if timeout_s is not None:
                return None
        return None

    def close(self):
        pass


def frame(index):
    return Frame(np.full((48, 96, 3), 100, np.uint8), index, time.monotonic(), live=True)


@pytest.fixture
def run_on(dff_edge, bundle_path, monkeypatch):
    """Run the bundle on a camera."""

    def run(camera, *arguments):
        monkeypatch.setattr(live, "open_source", lambda uri: camera)
        return dff_edge("run", bundle_path, "0", *arguments)

    return run


def test_key_in_the_window_is_seen_while_the_camera_gives_nothing(run_on, monkeypatch):
    keys = iter([-1, -1, ord("q")])  # at the frame, at the first look, at the second
    monkeypatch.setenv("DISPLAY", ":0")
    for name, stand_in in {
        "namedWindow": lambda *_: None,
        "imshow": lambda *_: None,
        "waitKey": lambda _: next(keys),
        "getWindowProperty": lambda *_: 1.0,
        "destroyWindow": lambda _: None,
    }.items():
        monkeypatch.setattr(cv2, name, stand_in)
    camera = ScriptedCamera(frame(0), *[None] * 9, frame(1))
    done = run_on(camera, "-o", "display://", "--json", "-")

    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["frames"] == 1
    assert len(camera.script) == 8


def test_run_ends_when_its_only_output_fails_though_the_camera_gives_nothing(run_on, tmp_path):
    (tmp_path / "full.jsonl").symlink_to("/dev/full")
    camera = ScriptedCamera(frame(0), *[None] * 2000, frame(1))
    done = run_on(camera, "-o", tmp_path / "full.jsonl", "--json", "-")

    assert done.exit_code == 1
    assert "no room is left" in done.stderr
    assert json.loads(done.stdout)["frames"] == 1
    assert camera.script


def test_pauses_change_no_result(run_on, tmp_path):
    lines = tmp_path / "out.jsonl"
    steps = [step for index in range(6) for step in (frame(index), None)]
    done = run_on(ScriptedCamera(*steps), "-o", lines, "--interval", 3)

    assert done.exit_code == 0, done.output
    records = [json.loads(line) for line in lines.read_text().splitlines()]
    assert [record["index"] for record in records] == list(range(6))
    assert [record["key_index"] for record in records] == [0, 0, 0, 3, 3, 3]


def test_frame_that_cannot_be_used_is_logged_and_counted(run_on, caplog):
    with caplog.at_level(logging.WARNING):
        done = run_on(ScriptedCamera(frame(0), frame(1), frame(1), frame(2)), "--json", "-")

    numbers = json.loads(done.stdout)
    assert (numbers["frames"], numbers["failed"]) == (3, 1)
    assert "must grow" in numbers["failures"][0]
    assert "frame 1 skipped" in caplog.text


def test_paced_recording_ends_the_run_with_all_frames_answered_for(dff_edge, bundle_path):
    source = "synthetic://street?rate=100&frames=20&height=32&width=64"
    numbers = json.loads(dff_edge("run", bundle_path, source, "--json", "-").stdout)
    assert numbers["frames"] + numbers["dropped"] == 20


def test_camera_that_gives_up_leaves_numbers_and_whole_files(run_on, tmp_path, monkeypatch):
    ends = []
    finish = Channel.finish
    monkeypatch.setattr(
        Channel, "finish", lambda self, *how: (ends.append(how), finish(self, *how))[1]
    )
    lines, numbers, trace = (tmp_path / name for name in ("out.jsonl", "run.json", "trace.json"))
    camera = ScriptedCamera(frame(0), frame(1), None, SourceError("camera 0 was given up."))
    done = run_on(
        camera, "-o", lines, "--json", numbers, "--profile", trace, "--serve", "127.0.0.1:0"
    )

    assert done.exit_code == 1
    assert done.stderr.endswith("Error: camera 0 was given up.\n")
    assert done.stdout.startswith("2 frames in")
    assert json.loads(numbers.read_text())["frames"] == 2
    assert json.loads(trace.read_text())["traceEvents"]
    assert len(lines.read_text().splitlines()) == 2
    assert ends == [("failed", "camera 0 was given up.")]


def test_camera_that_gives_up_before_its_first_frame_is_told(run_on):
    done = run_on(ScriptedCamera(SourceError("camera 0 was given up.")), "--json", "-")
    assert done.exit_code == 1
    assert json.loads(done.stdout)["frames"] == 0
    assert done.stderr.endswith("Error: camera 0 was given up.\n")


def test_depth_that_only_slows_a_live_source_is_refused(run_on):
    done = run_on(ScriptedCamera(frame(0)), "--depth", 2)
    assert done.exit_code == 2
    assert "camera 0 is live" in " ".join(done.stderr.split())
    assert "Usage: " in done.stderr
    assert run_on(ScriptedCamera(frame(0)), "--depth", 1).exit_code == 0
