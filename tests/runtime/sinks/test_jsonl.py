"""Lines of JSON: their content against counts done by hand, and a full disk."""

import json
import os
import subprocess
import sys
import textwrap
import threading
from dataclasses import replace

import numpy as np
import pytest

from dff_edge.boxes import Detections
from dff_edge.errors import SinkError
from dff_edge.frames import Frame, Result
from dff_edge.runtime.sinks import Style, open_sink
from tests.runtime.sinks.standins import WAIT_S, wait_until

CLASSES = ("road", "sky", "Fußgänger")
COLOURS = ((0, 0, 0),) * 3


def result(index=12, key_index=10, age_s=None):
    labels = np.array([[0, 0, 0, 1], [0, 2, 255, 0]], np.uint8)
    frame = Frame(np.zeros((2, 4, 3), np.uint8), index, 0.4, segment=1)
    return Result(
        frame, labels, key_index, 0.0123456, {"flow": 1.23456, "task": 2.0}, age_s, key_age_s=2 / 30
    )


def sink_to(path, **options):
    return open_sink(str(path), classes=CLASSES, colours=COLOURS, fps=30, **options)


def test_line_says_everything_about_a_frame(tmp_path):
    with sink_to(tmp_path / "out.jsonl") as sink:
        sink.write(result())

    (line,) = (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(line) == {
        "index": 12,
        "stamp_s": 0.4,
        "segment": 1,
        "key_index": 10,
        "is_key": False,
        "key_distance": 2,
        "key_age_ms": 66.667,
        "age_ms": None,
        "latency_ms": 12.346,
        "expected_disagreement": None,
        "stage_ms": {"flow": 1.235, "task": 2.0},
        "classes": {"road": 0.625, "sky": 0.125, "Fußgänger": 0.125},
    }


def test_staleness_is_written_where_the_bundle_foretells_it(tmp_path):
    with sink_to(tmp_path / "out.jsonl") as sink:
        sink.write(replace(result(), expected_disagreement=0.0123456))

    line = json.loads((tmp_path / "out.jsonl").read_text(encoding="utf-8"))
    assert line["expected_disagreement"] == 0.0123


def detections():
    frame = Frame(np.zeros((20, 40, 3), np.uint8), 12, 0.4)
    found = Detections(
        np.float32([[1, 2, 30.128, 20], [0, 0, 4, 4]]),
        np.float32([0.87654, 0.25]),
        np.int32([2, 0]),
    )
    return Result(frame, None, 12, 0.01, {}, detections=found, task="detection")


@pytest.mark.parametrize(("how", "count"), [({}, 1), ({"style": Style(min_score=0.25)}, 2)])
def test_line_of_detections_has_the_objects_that_are_sure_enough(tmp_path, how, count):
    with sink_to(tmp_path / "out.jsonl", task="detection", **how) as sink:
        sink.write(detections())

    line = json.loads((tmp_path / "out.jsonl").read_text(encoding="utf-8"))
    objects = [
        {"class": "Fußgänger", "score": 0.8765, "box": [1.0, 2.0, 30.13, 20.0]},
        {"class": "road", "score": 0.25, "box": [0.0, 0.0, 4.0, 4.0]},
    ]
    assert line["objects"] == objects[:count]
    assert "classes" not in line


def test_line_of_a_live_frame_tells_its_age(tmp_path):
    with sink_to(tmp_path / "out.jsonl") as sink:
        sink.write(result(age_s=0.0456789))

    assert json.loads((tmp_path / "out.jsonl").read_text(encoding="utf-8"))["age_ms"] == 45.679


def test_each_line_is_there_at_once(tmp_path):
    sink = sink_to(tmp_path / "out.jsonl")
    for count in (1, 2, 3):
        sink.write(result())
        assert len((tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()) == count
        assert sink.written == count
    sink.close()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full of Linux")
def test_full_disk_is_a_clear_error_and_close_is_quiet(tmp_path):
    (tmp_path / "out.jsonl").symlink_to("/dev/full")
    sink = sink_to(tmp_path / "out.jsonl")

    with pytest.raises(SinkError, match=r"out\.jsonl' failed, no room is left: No space"):
        sink.write(result())

    assert sink.written == 0
    sink.close()
    sink.close()


def test_line_without_room_is_taken_back(tmp_path):
    code = """
        import resource, sys
        import numpy as np
        from dff_edge.errors import SinkError
        from dff_edge.frames import Frame, Result
        from dff_edge.runtime.sinks import open_sink

        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        frame = Frame(np.zeros((2, 4, 3), np.uint8), 0, 0.0)
        item = Result(frame, np.zeros((2, 4), np.uint8), 0, 0.0, {})
        with open_sink(sys.argv[1], classes=["a"], colours=[(0, 0, 0)], fps=30) as sink:
            try:
                while True:
                    sink.write(item)
            except SinkError:
                print(sink.written)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "out.jsonl")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    text = (tmp_path / "out.jsonl").read_text(encoding="utf-8")
    assert text.endswith("}\n")
    assert len([json.loads(line) for line in text.splitlines()]) == int(done.stdout) > 1


def test_missing_folder_is_refused_with_advice(tmp_path):
    with pytest.raises(SinkError, match=r"no folder '.*/gone'\. Make it first: mkdir -p"):
        sink_to(tmp_path / "gone" / "out.jsonl")


def test_null_sink_counts():
    with open_sink("null://", classes=CLASSES, colours=COLOURS, fps=None) as sink:
        sink.write(result())
        sink.write(result())

    assert sink.written == 2


def test_pipe_without_a_reader_is_said_to_wait_for_one(tmp_path, caplog):
    pipe, opened = tmp_path / "pipe.jsonl", []
    os.mkfifo(pipe)
    opener = threading.Thread(target=lambda: opened.append(sink_to(pipe)), daemon=True)
    opener.start()
    wait_until(lambda: "pipe.jsonl' is a pipe without a reader" in caplog.text)
    assert not opened
    with open(pipe, "rb") as reader:
        opener.join(WAIT_S)
        opened[0].write(result())
        opened[0].close()
        assert json.loads(reader.read())["index"] == 12


def test_pipe_with_a_reader_is_written_as_any_file(tmp_path, caplog):
    pipe = tmp_path / "pipe.jsonl"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with sink_to(pipe) as sink:
        sink.write(result())
        assert os.get_blocking(sink._file._descriptor)
        assert json.loads(os.read(reader, 4096))["index"] == 12
    assert os.read(reader, 1) == b""
    os.close(reader)
    assert caplog.text == ""
