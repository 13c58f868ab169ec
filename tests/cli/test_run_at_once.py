"""dff-edge run on several sources at once."""

import json
import os
from pathlib import Path

import pytest

SCENE = "synthetic://street?frames={}&height=32&width=64&rate=200&seed={}"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_each_source_has_its_own_outputs_and_numbers(dff_edge, bundle_path):
    sources = [SCENE.format(8, 1), SCENE.format(5, 2)]
    done = dff_edge(
        "run", bundle_path, *sources, "--at-once", "-o", "out/", "-o", "out/{name}.jsonl",
        "--profile", "out/{name}-trace.json", "--json", "run.json", "--serve", "127.0.0.1:0",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    names = ["street", "street-2"]
    assert sorted(os.listdir("out")) == sorted(
        f"{name}{end}" for name in names for end in (".jsonl", ".mp4", "-trace.json")
    )
    runs = json.loads(Path("run.json").read_text())
    assert runs["failed"] == 0
    assert [run["source"] for run in runs["sources"]] == sources
    for run, name, count in zip(runs["sources"], names, (8, 5), strict=True):
        assert run["frames"] + run["dropped"] == count
        assert len(Path(f"out/{name}.jsonl").read_text().splitlines()) == run["frames"]
        assert json.loads(Path(f"out/{name}-trace.json").read_text())["traceEvents"]
    assert done.stdout.count("fps") == 2
    assert done.stdout.startswith(sources[0] + "\n")
    assert "Watch at http://127.0.0.1:" in done.stderr
    assert "wrote out/street-2.mp4" in done.stderr


def test_one_that_fails_is_told_and_the_exit_code_is_1(dff_edge, bundle_path):
    done = dff_edge(
        "run", bundle_path, "http://127.0.0.1:9/a", SCENE.format(5, 1), "-o", "out/", "--json", "-",
    )  # fmt: skip
    assert done.exit_code == 1
    runs = json.loads(done.stdout)
    assert [run["state"] for run in runs["sources"]] == ["failed", "finished"]
    assert runs["failed"] == 1
    assert "ERROR: http://127.0.0.1:9/a: " in done.stderr
    assert done.stderr.endswith("Error: 1 of 2 sources failed: http://127.0.0.1:9/a\n")
    assert os.listdir("out") == ["street.mp4"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["0", "-o", "out.mp4"], "'out.mp4' is one place for 2 sources; give each its own"),
        (["0", "-o", "display://"], "watch them in a browser: --serve 8080"),
        (["0", "--profile", "t.json"], "--profile t.json is one file for 2 sources"),
        (["one.mp4", "--serve", "0"], "these 2 run one after another; add --at-once"),
        (["0", "--engine", "cuda"], "engines are shared on the CPU only"),
        (["0", "--policy", "idle"], "'idle' with key frames in order"),
    ],
)
def test_what_does_not_fit_is_refused(dff_edge, bundle_path, folder, arguments, message):
    done = dff_edge("run", bundle_path, "drive.mp4", *arguments)
    assert done.exit_code == 2, done.output
    assert message in " ".join(done.stderr.split())
    assert os.listdir(folder) == []
