"""dff-edge run, as its user types it."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.request

import av
import cv2
import numpy as np
import pytest


@pytest.fixture
def frames_folder(tmp_path):
    folder = tmp_path / "frames"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in range(1, 12):  # natural order: 2 before 10
        image = rng.integers(0, 256, (48, 96, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"frame{index}.png"), image)
    return folder


def test_all_sinks_get_every_frame(dff_edge, bundle_path, frames_folder, tmp_path):
    video, lines, labels = tmp_path / "out.mp4", tmp_path / "out.jsonl", tmp_path / "labels"
    done = dff_edge(
        "run", bundle_path, frames_folder, "-o", video, "-o", lines, "-o", f"labels://{labels}",
        "--interval", 3,
    )  # fmt: skip

    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("11 frames in")
    assert "4 key frames" in done.stdout
    records = [json.loads(line) for line in lines.read_text().splitlines()]
    assert [record["index"] for record in records] == list(range(11))
    assert [record["key_index"] for record in records] == [0, 0, 0, 3, 3, 3, 6, 6, 6, 9, 9]
    assert len(list(labels.iterdir())) == 11
    with av.open(str(video)) as container:
        assert container.streams.video[0].codec.name == "h264"
        assert sum(1 for _ in container.decode(video=0)) == 11


@pytest.mark.parametrize("option", [("--interval", 5), ("--policy", "fixed:5")], ids=str)
def test_numbers_as_json_on_stdout(dff_edge, bundle_path, frames_folder, option):
    done = dff_edge("run", bundle_path, frames_folder, *option, "--json", "-")
    numbers = json.loads(done.stdout)
    assert (numbers["frames"], numbers["key_frames"], numbers["failed"]) == (11, 3, 0)
    assert numbers["fps"] == pytest.approx(numbers["frames"] / numbers["seconds"])
    assert {name: stage["count"] for name, stage in numbers["stages"].items()} == {
        "resize": 11, "feature": 3, "flow": 8, "warp": 8, "task": 11, "decode": 11,
    }  # fmt: skip
    assert sum(stage["share"] for stage in numbers["stages"].values()) == pytest.approx(1)


def test_frames_option_stops_early(dff_edge, bundle_path, frames_folder):
    done = dff_edge("run", bundle_path, frames_folder, "--frames", 4, "--json", "-")
    assert json.loads(done.stdout)["frames"] == 4


def test_unreadable_image_is_counted(dff_edge, bundle_path, frames_folder):
    (frames_folder / "frame5.png").write_bytes(b"no image")
    done = dff_edge("run", bundle_path, frames_folder, "--json", "-")
    assert done.exit_code == 0
    numbers = json.loads(done.stdout)
    assert (numbers["frames"], numbers["failed"]) == (10, 1)
    assert "frame5.png" in numbers["failures"][0]


def test_int8_and_fp32_differ(dff_edge, bundle_path, frames_folder, tmp_path):
    for precision in ("fp32", "int8"):
        done = dff_edge(
            "run", bundle_path, frames_folder, "--precision", precision,
            "-o", tmp_path / f"{precision}.jsonl",
        )  # fmt: skip
        assert done.exit_code == 0
    lines = [(tmp_path / f"{name}.jsonl").read_text().splitlines() for name in ("fp32", "int8")]
    shares = [[json.loads(line)["classes"] for line in part] for part in lines]
    assert shares[0] != shares[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no/such.mp4"], "no/such.mp4"),
        (["99"], "Camera '99'"),
        (["rtsp://127.0.0.1:1/"], "rtsp"),
        (["{frames}", "--precision", "fp16"], "fp16"),
    ],
)
def test_failed_work_is_one_message_and_exit_code_1(
    dff_edge, bundle_path, frames_folder, arguments, message
):
    arguments = [argument.replace("{frames}", str(frames_folder)) for argument in arguments]
    done = dff_edge("run", bundle_path, *arguments)
    assert done.exit_code == 1
    assert done.stderr.startswith("Error: ")
    assert message in done.stderr
    assert "Traceback" not in done.output
    assert done.stdout == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ["--interval", "0"],
        ["--policy", "fixed:0"],
        ["--policy", "often"],
        ["--interval", "5", "--policy", "fixed:5"],
        ["--precision", "fp64"],
        ["--depth", "x"],
        ["--no-such-option"],
        ["--json", "no/such/folder/run.json"],
        ["--serve", "robot"],
        ["--serve", "127.0.0.1:99999"],
    ],
)
def test_wrong_command_line_is_exit_code_2(dff_edge, bundle_path, frames_folder, arguments):
    done = dff_edge("run", bundle_path, frames_folder, *arguments)
    assert done.exit_code == 2
    assert "Usage: " in done.stderr


def test_damaged_bundle_is_refused_by_name(dff_edge, bundle_path, frames_folder, tmp_path):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(bundle_path, copy)
    graph = next(copy.rglob("flow.onnx"))
    graph.write_bytes(graph.read_bytes()[:-1] + b"x")
    done = dff_edge("run", copy, frames_folder)
    assert done.exit_code == 1
    assert "flow.onnx" in done.stderr


def test_interval_that_only_looks_like_a_number_is_exit_code_2(dff_edge, bundle_path):
    done = dff_edge("benchmark", bundle_path, "--intervals", "\N{SUPERSCRIPT TWO}")
    assert done.exit_code == 2
    assert "is not a list of numbers" in done.stderr


def test_json_lines_go_into_a_named_pipe(dff_edge, bundle_path, frames_folder, tmp_path):
    pipe, lines = tmp_path / "pipe.jsonl", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: lines.extend(pipe.read_text().splitlines()))
    reader.start()
    done = dff_edge("run", bundle_path, frames_folder, "-o", pipe)
    reader.join(10)
    assert done.exit_code == 0, done.output
    assert [json.loads(line)["index"] for line in lines] == list(range(11))


def test_output_that_fails_is_told_and_the_others_are_whole(
    dff_edge, bundle_path, frames_folder, tmp_path
):
    full, video, numbers = (tmp_path / name for name in ("full.jsonl", "out.mp4", "run.json"))
    full.symlink_to("/dev/full")
    done = dff_edge(
        "run", bundle_path, frames_folder, "-o", full, "-o", video, "--json", numbers
    )  # fmt: skip

    assert done.exit_code == 1
    assert f"Error: 1 of 2 outputs failed. Writing '{full}' failed, no room is left" in done.stderr
    assert f"{full}: 0 written, 11 lost" in done.stdout
    with av.open(str(video)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 11
    sinks = json.loads(numbers.read_text())["sinks"]
    assert [(sink["written"], sink["lost"]) for sink in sinks] == [(0, 11), (11, 0)]
    assert "no room is left" in sinks[0]["failure"]
    assert sinks[1]["failure"] is None


def test_run_ends_when_its_only_output_fails(dff_edge, bundle_path, tmp_path):
    (tmp_path / "full.jsonl").symlink_to("/dev/full")
    done = dff_edge(
        "run", bundle_path, "synthetic://street?frames=5000&height=32&width=64",
        "-o", tmp_path / "full.jsonl", "--json", "-",
    )  # fmt: skip

    assert done.exit_code == 1
    numbers = json.loads(done.stdout)
    assert numbers["frames"] < 5000
    assert numbers["state"] == "failed"
    assert "no room is left" in done.stderr


def test_age_of_live_results_is_told(dff_edge, bundle_path, tmp_path):
    lines, numbers = tmp_path / "out.jsonl", tmp_path / "run.json"
    done = dff_edge(
        "run", bundle_path, "synthetic://street?rate=200&frames=20&height=32&width=64",
        "-o", lines, "--json", numbers,
    )  # fmt: skip

    assert done.exit_code == 0, done.output
    age = json.loads(numbers.read_text())["age"]
    ages = [json.loads(line)["age_ms"] for line in lines.read_text().splitlines()]
    assert f"p50 {age['p50_ms']:.1f} ms" in done.stdout
    assert age["p50_ms"] == pytest.approx(np.median(ages), abs=0.01)
    assert min(ages) > 0


def test_file_has_no_age(dff_edge, bundle_path, frames_folder):
    done = dff_edge("run", bundle_path, frames_folder)
    assert "age of results" not in done.stdout


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_stop_leave_whole_files_and_end_the_server(bundle_path, tmp_path, signal_number):
    video, lines = tmp_path / "out.mp4", tmp_path / "out.jsonl"
    with subprocess.Popen(
        [sys.executable, "-c", "from dff_edge.cli import main; main()", "run", bundle_path]
        + ["synthetic://street?rate=100&frames=100000&height=32&width=64", "--serve", "127.0.0.1:0"]
        + ["-o", video, "-o", lines, "--json", "-"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            first_line = process.stderr.readline()
            url = re.fullmatch(r"Watch at (http://127\.0\.0\.1:\d+/)\n", first_line)[1]
            frames = 0
            while frames < 30:
                with urllib.request.urlopen(f"{url}stats.json", timeout=20) as answer:
                    numbers = json.load(answer)
                frames = numbers["frames"]
            process.send_signal(signal_number)
            stdout, stderr = process.communicate(timeout=60)
        finally:
            process.kill()  # nothing, where it has ended

    assert process.returncode == 0, stderr
    assert "Stopped; written results are kept" in stderr
    assert "Traceback" not in stderr
    assert numbers["camera"] == "live"
    assert [sink["uri"] for sink in numbers["sinks"]] == [str(video), str(lines)]
    numbers = json.loads(stdout)
    assert numbers["frames"] >= frames
    # What a busy machine could not encode in time is lost, and all else is there.
    for sink in numbers["sinks"]:
        assert sink["written"] + sink["lost"] >= numbers["frames"]
        assert sink["failure"] is None
    with av.open(str(video)) as container:
        decoded = sum(1 for _ in container.decode(video=0))
    whole_lines = [json.loads(line) for line in lines.read_text().splitlines()]
    assert [decoded, len(whole_lines)] == [sink["written"] for sink in numbers["sinks"]]
    assert decoded > 0


def test_page_that_others_reach_is_warned_of(dff_edge, bundle_path, frames_folder):
    done = dff_edge("run", bundle_path, frames_folder, "--serve", "0.0.0.0:0")
    assert done.exit_code == 0, done.output
    assert "anyone on the network can watch" in done.stderr

    done = dff_edge("run", bundle_path, frames_folder, "--serve", "127.0.0.1:0")
    assert "Watch at http://127.0.0.1:" in done.stderr
    assert "anyone" not in done.stderr


def test_busy_port_is_told(dff_edge, bundle_path, frames_folder):
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        done = dff_edge("run", bundle_path, frames_folder, "--serve", port)
    assert done.exit_code == 1
    assert f"Cannot serve at 127.0.0.1:{port}: the port is in use" in done.stderr


def test_missing_web_library_is_told(dff_edge, bundle_path, frames_folder, without):
    without("aiohttp")
    done = dff_edge("run", bundle_path, frames_folder, "--serve", "127.0.0.1:0")
    assert done.exit_code == 1
    assert "pip install 'dff-edge[serve]'" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["inspect", "street"],
        ["export", "street", "-o", "street.bundle"],
        ["evaluate", "street", "--source", "synthetic://street?split=test&clips=1&frames=2"],
    ],
)
def test_device_without_torch_is_told_so(dff_edge, monkeypatch, tmp_path, arguments, without):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("dff_edge.bundle.shipped.READY", "none")  # made by `make bundles`, perhaps
    without("torch")
    done = dff_edge(*arguments)
    assert done.exit_code == 1
    assert "needs 'torch'" in done.stderr
    # The extra, or torch alone where it would bring a second OpenCV (tests/test_packages.py).
    assert re.search(r"pip install '(dff-edge\[export\]|torch>=[\d.]+)'", done.stderr)


def test_source_without_a_frame_is_told(dff_edge, bundle_path, frames_folder):
    for path in frames_folder.iterdir():
        path.write_bytes(b"no image")
    done = dff_edge("run", bundle_path, frames_folder)
    assert done.exit_code == 1
    assert str(frames_folder) in done.stderr


def test_profile_is_a_trace_of_the_run(dff_edge, bundle_path, frames_folder, tmp_path):
    path = tmp_path / "trace.json"
    done = dff_edge("run", bundle_path, frames_folder, "--profile", path, "--json", "-")

    events = json.loads(path.read_text())["traceEvents"]
    spans = [event for event in events if event["ph"] == "X"]
    numbers = json.loads(done.stdout)
    for stage, about in numbers["stages"].items():
        assert len({s["name"] for s in spans if s["cat"] == stage}) == about["count"], stage


def test_profile_that_cannot_be_written_is_refused_before_the_run(
    dff_edge, bundle_path, frames_folder, tmp_path
):
    done = dff_edge("run", bundle_path, frames_folder, "--profile", tmp_path / "no" / "t.json")
    assert done.exit_code == 2
    assert "there is no folder" in done.stderr
