"""Two runs on the same outputs, and starts that fail: nothing of another run is lost."""

import json
import os
import re
import signal
import socket
import subprocess
import sys

import av
import pytest

RUN = [sys.executable, "-c", "from dff_edge.cli import main; main()", "run"]
SCENE = "synthetic://street?rate=100&frames=100000&height=32&width=64"
WAIT_S = 60


@pytest.fixture
def running(bundle_path, tmp_path):
    """A run that writes drive.mp4 and drive.jsonl and serves its page; gives process and port."""
    command = [*RUN, bundle_path, SCENE, "--serve", "127.0.0.1:0"]
    command += ["-o", "drive.mp4", "-o", "drive.jsonl"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    try:
        port = re.fullmatch(r"Watch at http://127\.0\.0\.1:(\d+)/\n", process.stderr.readline())[1]
        lines = tmp_path / "drive.jsonl"
        while not (lines.exists() and lines.read_bytes().count(b"\n") > 20):
            assert process.poll() is None
        yield process, port
    finally:
        process.kill()
        process.communicate()


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_second_start_leaves_the_first_run_whole(
    dff_edge, bundle_path, running, tmp_path, monkeypatch
):
    process, port = running
    monkeypatch.chdir(tmp_path)
    before = (tmp_path / "drive.jsonl").read_text().splitlines()[:20]  # whole lines
    outputs = ["-o", "drive.mp4", "-o", "drive.jsonl"]
    busy = dff_edge("run", bundle_path, SCENE, "--serve", port, *outputs)
    assert busy.exit_code == 1
    assert "the port is in use" in busy.stderr
    for output in ("drive.mp4", "drive.jsonl"):
        held = dff_edge("run", bundle_path, SCENE, "-o", "other.jsonl", "-o", output)
        assert held.exit_code == 1
        assert f"'{output}' is being written by process {process.pid} (" in held.stderr
    assert sorted(content(tmp_path)) == ["drive.jsonl", "drive.mp4"]

    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=WAIT_S)
    assert process.returncode == 0, stderr
    told = re.search(r"wrote drive\.jsonl \((\d+) frames", stderr)[1]
    lines = (tmp_path / "drive.jsonl").read_text().splitlines()
    assert lines[:20] == before
    assert len([json.loads(line) for line in lines]) == int(told)
    with av.open(str(tmp_path / "drive.mp4")) as container:
        decoded = sum(1 for _ in container.decode(video=0))
    assert f"wrote drive.mp4 ({decoded} frames" in stderr


def test_killed_run_leaves_its_recording_under_the_name_that_was_asked_for(running, tmp_path):
    process, _ = running
    process.kill()
    process.wait()
    assert sorted(content(tmp_path)) == ["drive.jsonl", "drive.mp4"]
    assert len((tmp_path / "drive.jsonl").read_text().splitlines()) > 20


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["-o", "out.avi"], 2),
        (["-o", "gone/x.mp4"], 2),
        (["-o", "labels://taken"], 1),
        (["-o", "file"], 2),
        (["-o", "folder.jsonl"], 2),
        (["--serve", "{busy}"], 1),
        (["--classes", "dragon"], 2),
        (["--precision", "fp16"], 1),
        (["--profile", "x.svg"], 2),
    ],
)
def test_start_that_fails_touches_nothing(
    dff_edge, bundle_path, tmp_path, monkeypatch, arguments, code
):
    monkeypatch.chdir(tmp_path)
    for name in ("drive.mp4", "drive.jsonl", "run.json"):
        (tmp_path / name).write_bytes(b"of another run")
    for name in ("taken", "folder.jsonl"):
        (tmp_path / name).mkdir()
    for name in ("taken/000000.png", "file"):
        (tmp_path / name).touch()
    before = sorted(os.listdir(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = str(busy.getsockname()[1])
        done = dff_edge(
            "run", bundle_path, "synthetic://street?frames=3&height=32&width=64",
            "-o", "drive.mp4", "-o", "drive.jsonl", "-o", "new.mp4", "--json", "run.json",
            *[argument.replace("{busy}", port) for argument in arguments],
        )  # fmt: skip
    assert done.exit_code == code, done.output
    assert sorted(os.listdir(tmp_path)) == before
    for name in ("drive.mp4", "drive.jsonl", "run.json"):
        assert (tmp_path / name).read_bytes() == b"of another run"


def test_recording_of_another_run_is_replaced_when_this_one_ends(
    dff_edge, bundle_path, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    source = "synthetic://street?frames=3&height=32&width=64"
    for _ in range(2):
        done = dff_edge("run", bundle_path, source, "-o", "out.jsonl", "--json", "-")
        assert done.exit_code == 0, done.output
    assert (
        "out.jsonl is there from another run: this one writes to out.new.jsonl, which replaces it "
        "when the run ends"
    ) in done.stderr
    assert "wrote out.jsonl (3 frames)" in done.stderr
    assert os.listdir(tmp_path) == ["out.jsonl"]


@pytest.mark.parametrize("option", ["--json", "--profile"])
def test_file_of_numbers_is_for_one_run_too(dff_edge, bundle_path, tmp_path, monkeypatch, option):
    from dff_edge.files.atomic import AtomicFile

    monkeypatch.chdir(tmp_path)
    with AtomicFile("run.json"):
        done = dff_edge("run", bundle_path, SCENE, option, "run.json", "-o", "out.jsonl")
    assert done.exit_code == 1
    assert "'run.json' is being written by this process already" in done.stderr
    assert os.listdir(tmp_path) == []


def test_numbers_that_find_no_room_are_on_stdout_and_the_old_ones_stay(bundle_path, tmp_path):
    (tmp_path / "run.json").write_text("old")
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100)); "
        "from dff_edge.cli import main; main()"
    )
    source = "synthetic://street?frames=3&height=32&width=64"
    done = subprocess.run(
        [sys.executable, "-c", code, "run", bundle_path, source, "--json", "run.json"],
        cwd=tmp_path, capture_output=True, text=True, timeout=WAIT_S, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "'run.json' cannot be written, no room is left: File too large" in done.stderr
    assert json.loads(done.stdout)["frames"] == 3
    assert (tmp_path / "run.json").read_text() == "old"
    assert os.listdir(tmp_path) == ["run.json"]


def test_labels_of_two_runs_are_not_mixed(dff_edge, bundle_path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = "synthetic://street?frames={}&height=32&width=64"
    for pattern in ("labels://out", "frames/%06d.png"):
        folder = tmp_path / ("out" if "out" in pattern else "frames")
        assert dff_edge("run", bundle_path, source.format(5), "-o", pattern).exit_code == 0
        before = content(folder)
        again = dff_edge("run", bundle_path, source.format(2), "-o", pattern)
        assert again.exit_code == 1
        assert f"remove them: '{pattern}?replace=yes'" in again.stderr
        assert content(folder) == before
        again = dff_edge("run", bundle_path, source.format(2), "-o", f"{pattern}?replace=yes")
        assert again.exit_code == 0
        assert sorted(content(folder)) == ["000000.png", "000001.png"]
