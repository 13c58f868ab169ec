"""The run of a bundle from Python: what is opened, written, kept and told."""

import json
import os

import cv2
import numpy as np
import pytest

from dff_edge.errors import ConfigError, PipelineError, SinkError
from dff_edge.runtime import live
from dff_edge.runtime.drawing.style import Style
from dff_edge.runtime.live import Runner, RunOptions
from dff_edge.runtime.pipeline import Pipeline
from dff_edge.runtime.sources import open_source
from tests.bundle.bundles import make_bundle
from tests.bundle.detection_bundles import make_detection_bundle

SCENE = "synthetic://street?frames={}&height=32&width=64"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("bundle") / "small", (32, 64))


@pytest.fixture
def pictures(tmp_path):
    """The files of three pictures."""
    (tmp_path / "in").mkdir()
    paths = [tmp_path / "in" / f"{name}.png" for name in "abc"]
    for path in paths:
        cv2.imwrite(str(path), np.zeros((48, 96, 3), np.uint8))
    return paths


def test_results_are_written_and_told(bundle, tmp_path):
    lines = tmp_path / "out.jsonl"
    done = []
    with Runner(bundle, RunOptions(policy="fixed:4")) as runner:
        report = runner.run(SCENE.format(6), [str(lines)], progress=lambda *args: done.append(args))
    assert (report.state, report.failure, report.numbers["frames"]) == ("finished", None, 6)
    assert report.numbers["key_frames"] == 2
    assert report.source == report.numbers["source"] == SCENE.format(6)
    (sink,) = report.sinks
    assert (sink.written, sink.place, sink.replaces) == (6, str(lines), None)
    keys = [json.loads(line)["key_index"] for line in lines.read_text().splitlines()]
    assert keys == [0, 0, 0, 0, 4, 4]
    assert done == [(count, 6) for count in range(1, 7)]


@pytest.mark.parametrize(
    ("chosen", "asked", "least"), [(None, None, 0.5), (0.4, None, 0.4), (0.4, 0.55, 0.55)]
)
def test_boxes_are_shown_from_the_bundles_threshold_on(tmp_path, chosen, asked, least):
    threshold = {"score": chosen, "f1": 0.5, "data": "val", "key_interval": 5}
    changes = {} if chosen is None else {"score_threshold": threshold}
    bundle = make_detection_bundle(tmp_path / "bundle", **changes)
    scene, lines = "synthetic://street?frames=4&height=64&width=96", tmp_path / "out.jsonl"
    with Pipeline.open(bundle, threads=1) as pipeline, open_source(scene) as source:
        scores = [score for result in pipeline.run(source) for score in result.detections.scores]
    assert len({sum(score >= bound for score in scores) for bound in (0.4, 0.5, 0.55)}) == 3
    with Runner(bundle, RunOptions(style=Style(min_score=asked))) as runner:
        report = runner.run(scene, [str(lines)])
    written = [
        found["score"]
        for line in lines.read_text().splitlines()
        for found in json.loads(line)["objects"]
    ]
    assert len(written) == sum(score >= least for score in scores)
    assert sum(report.numbers["objects"].values()) == pytest.approx(len(written) / 4)


@pytest.fixture
def opened(monkeypatch):
    """Depths of the pipelines that are opened."""
    opened, really_open = [], Pipeline.open

    def count(*args, **how):
        opened.append(how["depth"])
        return really_open(*args, **how)

    monkeypatch.setattr(Pipeline, "open", count)
    return opened


def test_engines_are_opened_once_for_sources_of_a_kind(bundle, opened):
    with Runner(bundle) as runner:
        for source in (SCENE.format(2), SCENE.format(3), SCENE.format(3) + "&rate=200"):
            assert runner.run(source).numbers["frames"] > 0
    assert opened == [3, 1]


def test_second_source_starts_with_a_key_frame(bundle, tmp_path):
    with Runner(bundle, RunOptions(policy="fixed:100")) as runner:
        for name in "ab":
            runner.run(SCENE.format(3), [str(tmp_path / f"{name}.jsonl")])
    for name in "ab":
        lines = (tmp_path / f"{name}.jsonl").read_text().splitlines()
        assert [json.loads(line)["key_index"] for line in lines] == [0, 0, 0]


def test_run_that_cannot_start_leaves_everything_as_it_was(bundle, tmp_path):
    for name in ("a.mp4", "a.jsonl"):
        (tmp_path / name).write_bytes(b"of another run")
    good = [str(tmp_path / name) for name in ("a.mp4", "a.jsonl", "new.mp4", "new.jsonl")]
    with Runner(bundle) as runner:
        with pytest.raises(SinkError, match="no folder"):
            runner.run(SCENE.format(3), [*good, str(tmp_path / "gone" / "b.jsonl")])
        with pytest.raises(ZeroDivisionError):
            runner.run(SCENE.format(3), good, opened=lambda *_: 1 / 0)
    assert sorted(os.listdir(tmp_path)) == ["a.jsonl", "a.mp4"]
    assert (tmp_path / "a.mp4").read_bytes() == b"of another run"


def test_source_without_a_usable_frame_leaves_everything_as_it_was(bundle, tmp_path, monkeypatch):
    class NoFrames:
        live, fps, length, uri, counts = False, 30.0, 0, "nothing", None

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def __iter__(self):
            return iter(())

    monkeypatch.setattr(live, "open_source", lambda uri: NoFrames())
    (tmp_path / "a.jsonl").write_bytes(b"of another run")
    outputs = [f"{tmp_path}/{name}" for name in ("a.jsonl", "b.jsonl", "b.mp4", "out/")]
    with Runner(bundle) as runner:
        report = runner.run("nothing.mp4", [*outputs, f"labels://{tmp_path}/labels"])
    assert (report.state, report.failure) == (
        "failed",
        "nothing had no usable frame.",
    )
    assert os.listdir(tmp_path) == ["a.jsonl"]
    assert (tmp_path / "a.jsonl").read_bytes() == b"of another run"


def test_failed_stage_is_raised_and_the_next_source_has_new_engines(bundle, opened, monkeypatch):
    with Runner(bundle) as runner:
        broken = lambda self, source: (_ for _ in ()).throw(PipelineError("a stage"))  # noqa: E731
        with monkeypatch.context() as patch:
            patch.setattr(Pipeline, "run", broken)
            with pytest.raises(PipelineError):
                runner.run(SCENE.format(3))
        assert runner.run(SCENE.format(3)).numbers["frames"] == 3
    assert opened == [3, 3]


def test_folder_gets_a_picture_of_a_picture_and_a_video_of_a_video(bundle, pictures, tmp_path):
    with Runner(bundle) as runner:
        runner.run(str(pictures[0]), [f"{tmp_path}/out/"])
        runner.run(SCENE.format(3), [f"{tmp_path}/out/"])
        runner.run(str(tmp_path / "in"), [f"{tmp_path}/out/"])
    assert sorted(os.listdir(tmp_path / "out")) == ["a.png", "in.mp4", "street.mp4"]
    assert cv2.imread(str(tmp_path / "out" / "a.png")).shape == (48, 96, 3)


def test_one_picture_of_many_frames_is_refused_unless_one_is_asked_for(bundle, pictures, tmp_path):
    one = str(tmp_path / "one.png")
    with Runner(bundle) as runner:
        with pytest.raises(ConfigError, match=r"is one picture, and .*in has 3 frames"):
            runner.run(str(tmp_path / "in"), [one])
    with Runner(bundle, RunOptions(frames=1)) as runner:
        report = runner.run(str(tmp_path / "in"), [one])
    assert report.sinks[0].written == 1
    assert cv2.imread(one).shape == (48, 96, 3)


def test_depth_of_a_live_source_is_refused(bundle):
    with Runner(bundle, RunOptions(depth=2)) as runner:
        with pytest.raises(ConfigError, match="is live: .* a depth of 2 would only"):
            runner.run(SCENE.format(3) + "&rate=100")
