"""dff-edge run on several sources: one after another, each with its own outputs."""

import json
import os
import subprocess
import sys

import av
import cv2
import numpy as np
import pytest


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with videos b2.mp4 and b10.mp4 (not one) and a picture."""
    (tmp_path / "drives").mkdir()
    for name, frames in (("b2", 4), ("b10", 6)):
        with av.open(str(tmp_path / "drives" / f"{name}.mp4"), "w") as container:
            stream = container.add_stream("libx264", rate=30)
            stream.width, stream.height, stream.pix_fmt = 64, 32, "yuv420p"
            for value in range(frames):
                image = np.full((32, 64, 3), 20 * value, np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "bgr24")))
            container.mux(stream.encode())
    cv2.imwrite(str(tmp_path / "one.jpg"), np.zeros((48, 96, 3), np.uint8))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("source", ["drives", "drives/*.mp4"])
def test_each_video_of_a_folder_has_its_own_outputs(dff_edge, bundle_path, folder, source):
    done = dff_edge(
        "run", bundle_path, source, "one.jpg", "-o", "out/", "-o", "out/{name}.jsonl",
        "--profile", "out/{name}-trace.json", "--json", "run.json",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    names = [f"{name}{end}" for name in ("b10", "b2") for end in ("-trace.json", ".jsonl", ".mp4")]
    names += ["one-trace.json", "one.jpg", "one.jsonl"]
    assert sorted(os.listdir("out")) == sorted(names)
    with av.open("out/b10.mp4") as container:
        assert sum(1 for _ in container.decode(video=0)) == 6
    numbers = json.loads((folder / "run.json").read_text())
    assert [(run["source"], run["frames"]) for run in numbers["sources"]] == [
        ("drives/b2.mp4", 4),
        ("drives/b10.mp4", 6),
        ("one.jpg", 1),
    ]
    assert numbers["failed"] == 0
    assert done.stdout.startswith("drives/b2.mp4\n4 frames in")
    assert "wrote out/b10.mp4 (6 frames)" in done.stderr


def test_source_that_fails_does_not_stop_the_others(dff_edge, bundle_path, folder):
    (folder / "drives" / "b3.mp4").write_bytes(b"no video")
    done = dff_edge("run", bundle_path, "drives", "gone.mp4", "-o", "out/", "--json", "-")
    assert done.exit_code == 1
    assert sorted(os.listdir("out")) == ["b10.mp4", "b2.mp4"]
    runs = json.loads(done.stdout)["sources"]
    assert [(run["source"], run["state"]) for run in runs] == [
        ("drives/b2.mp4", "finished"),
        ("drives/b3.mp4", "failed"),
        ("drives/b10.mp4", "finished"),
        ("gone.mp4", "failed"),
    ]
    assert "ERROR: drives/b3.mp4: " in done.stderr
    assert done.stderr.endswith("Error: 2 of 4 sources failed: drives/b3.mp4, gone.mp4\n")


def test_output_of_one_source_that_is_taken_does_not_stop_the_others(dff_edge, bundle_path, folder):
    (folder / "out" / "b2.mp4").mkdir(parents=True)
    done = dff_edge("run", bundle_path, "drives", "-o", "out/{name}.mp4")
    assert done.exit_code == 2  # seen before anything is run
    assert "is a folder, expected a file" in done.stderr
    assert os.listdir("out") == ["b2.mp4"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", "out.mp4"], "'out.mp4' is one place for 2 sources; give each its own"),
        (["-o", "labels://out"], "'labels://out' is one place for 2 sources"),
        (["--serve", "0"], "these 2 run one after another; add --at-once, or serve one of them"),
        (["--profile", "t.json"], "--profile t.json is one file for 2 sources"),
        (["drives/b2.mp4", "-o", "out/"], "are the same place"),
        (["-o", "drives/"], "is the source itself and would be overwritten"),
    ],
)
def test_options_that_do_not_fit_several_sources_are_refused(
    dff_edge, bundle_path, folder, arguments, message
):
    done = dff_edge("run", bundle_path, "drives", *arguments)
    assert done.exit_code == 2
    assert message in " ".join(done.stderr.split())
    assert not (folder / "out").exists()


def test_one_picture_in_and_out(dff_edge, bundle_path, folder):
    done = dff_edge("run", bundle_path, "one.jpg", "-o", "out.png")
    assert done.exit_code == 0, done.output
    assert cv2.imread("out.png").shape == (48, 96, 3)
    assert "wrote out.png (1 frame)" in done.stderr

    done = dff_edge("run", bundle_path, "drives/b2.mp4", "-o", "two.png")
    assert done.exit_code == 2
    assert "is one picture, and drives/b2.mp4 has 4 frames" in " ".join(done.stderr.split())
    assert (
        dff_edge("run", bundle_path, "drives/b2.mp4", "-o", "two.png", "--frames", 1).exit_code == 0
    )


def test_images_and_videos_in_a_folder_are_refused(dff_edge, bundle_path, folder):
    os.rename("drives/b2.mp4", "b2.mp4")
    done = dff_edge("run", bundle_path, ".", "-o", "out/")
    assert done.exit_code == 2
    assert "holds 1 images and 1 videos" in " ".join(done.stderr.split())


def test_classes_opacity_and_legend_are_those_that_were_asked_for(dff_edge, bundle_path, folder):
    from dff_edge.bundle.reader import Bundle

    colours = {tuple(c.colour[::-1]) for c in Bundle.open(bundle_path).manifest.classes}
    name = Bundle.open(bundle_path).manifest.class_names[0]
    black = np.zeros((3,), int)
    done = dff_edge("run", bundle_path, "one.jpg", "-o", "all.png", "--opacity", 1, "--no-legend")
    assert done.exit_code == 0, done.output
    picture = cv2.imread("all.png").reshape(-1, 3)
    assert {tuple(pixel) for pixel in picture[-96:].tolist()} <= colours
    dff_edge("run", bundle_path, "one.jpg", "-o", "none.png", "--opacity", 0, "--no-legend")
    assert (cv2.imread("none.png")[-1] == black).all()
    shown = dff_edge("run", bundle_path, "one.jpg", "-o", "some.png", "--classes", name)
    assert shown.exit_code == 0
    wrong = dff_edge("run", bundle_path, "one.jpg", "--classes", f"{name},dragon")
    assert wrong.exit_code == 2
    assert f"'dragon' is no class of {bundle_path}, expected some of {name}" in " ".join(
        wrong.stderr.split()
    )


def test_names_that_are_no_text_are_printed_byte_by_byte(bundle_path, folder):
    os.rename(b"drives/b2.mp4", b"drives/b\xe4.mp4")
    command = [sys.executable, "-c", "from dff_edge.cli import main; main()", "run", bundle_path]
    done = subprocess.run(
        [*command, "drives", "-o", "out/"],
        env={**os.environ, "PYTHONIOENCODING": "utf-8:strict", "LC_ALL": "C.UTF-8"},
        capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert b"drives/b\xe4.mp4\n4 frames in" in done.stdout
    assert sorted(os.listdir(b"out")) == [b"b10.mp4", b"b\xe4.mp4"]


def test_ctrl_c_while_a_source_is_opened_leaves_what_was_written(
    dff_edge, bundle_path, folder, monkeypatch
):
    from dff_edge.runtime import live

    really_open = live.open_source

    def open_or_stop(uri):
        if "b10" in uri:
            raise KeyboardInterrupt
        return really_open(uri)

    monkeypatch.setattr(live, "open_source", open_or_stop)
    done = dff_edge("run", bundle_path, "drives", "-o", "out/", "--json", "run.json")
    assert done.exit_code == 0, done.output
    assert os.listdir("out") == ["b2.mp4"]
    runs = json.loads((folder / "run.json").read_text())["sources"]
    assert [run["source"] for run in runs] == ["drives/b2.mp4"]
