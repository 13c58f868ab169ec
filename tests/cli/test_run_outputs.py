"""dff-edge run refuses outputs that would overwrite what it reads, or each other."""

import cv2
import numpy as np
import pytest


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder: ``clip.mp4``, ``clips/a/0.png`` and ``clips/b/0.png``."""
    (tmp_path / "clip.mp4").write_bytes(b"looked at before it is opened")
    for name in "ab":
        (tmp_path / "clips" / name).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "clips" / name / "0.png"), np.zeros((48, 96, 3), np.uint8))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def content(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("source", "output"),
    [
        ("clip.mp4", ["--json", "clip.mp4"]),
        ("clip.mp4?rate=30", ["--json", "./clip.mp4"]),
        ("clip.mp4", ["-o", "clips/../clip.mp4"]),
        ("clips/a", ["--profile", "clips/a/0.png"]),
        ("clips/a", ["--json", "clips/a/0.png"]),
        ("clips/a/0.png", ["--json", "clips/a/0.png"]),
        ("clips/*/*.png", ["--json", "clips/b/0.png"]),
        ("clips/a", ["-o", "labels://clips/a"]),
        ("clips/a/0.png", ["-o", "labels://clips/a"]),
        ("clips/*/*.png", ["-o", "labels://clips/a"]),
        ("clips/**/*.png", ["-o", "labels://clips/b"]),
    ],
)
def test_source_is_not_overwritten(dff_edge, bundle_path, folder, source, output):
    before = content(folder)
    done = dff_edge("run", bundle_path, source, *output)
    assert done.exit_code == 2
    assert "is the source itself and would be overwritten" in " ".join(done.stderr.split())
    assert content(folder) == before


@pytest.mark.parametrize(
    "outputs",
    [
        ["-o", "dup.jsonl", "-o", "dup.jsonl"],
        ["-o", "dup.mp4", "-o", "./dup.mp4"],
        ["-o", "a.jsonl", "--json", "a.jsonl"],
        ["--profile", "a.json", "--json", "clips/../a.json"],
        ["-o", "labels://new", "-o", "labels://./new"],
    ],
)
def test_outputs_that_are_one_place_are_refused(dff_edge, bundle_path, folder, outputs):
    before = content(folder)
    done = dff_edge("run", bundle_path, "clips/a", *outputs)
    assert done.exit_code == 2
    assert "are the same place" in " ".join(done.stderr.split())
    assert content(folder) == before


def test_link_to_another_output_is_refused(dff_edge, bundle_path, folder):
    (folder / "one.jsonl").touch()
    (folder / "two.jsonl").hardlink_to(folder / "one.jsonl")
    (folder / "three.jsonl").symlink_to(folder / "new.jsonl")
    for pair in (["one.jsonl", "two.jsonl"], ["new.jsonl", "three.jsonl"]):
        done = dff_edge("run", bundle_path, "clips/a", "-o", pair[0], "-o", pair[1])
        assert done.exit_code == 2


def test_outputs_beside_the_source_are_allowed_twice(dff_edge, bundle_path, folder):
    for _ in range(2):
        done = dff_edge(
            "run", bundle_path, "clips/a", "-o", "clips/a/out.jsonl",
            "-o", "labels://clips?replace=yes", "--json", "-",
        )  # fmt: skip
        assert done.exit_code == 0, done.output
