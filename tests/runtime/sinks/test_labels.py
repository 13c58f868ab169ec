"""Label maps as PNGs, read back to the bit."""

import os

import cv2
import numpy as np
import pytest

from dff_edge.errors import SinkError
from dff_edge.frames import Frame, Result
from dff_edge.runtime.sinks import open_sink


def result(index):
    labels = np.random.default_rng(index).integers(0, 256, (5, 7), np.uint8)
    return Result(Frame(np.zeros((5, 7, 3), np.uint8), index, 0.0), labels, index, 0.0, {})


def sink_to(folder, **options):
    return open_sink(f"labels://{folder}", classes=["a"], colours=[(0, 0, 0)], fps=30, **options)


def test_labels_are_written_by_index(tmp_path):
    with sink_to(tmp_path / "out") as sink:
        for index in (0, 2, 123):
            sink.write(result(index))

    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["000000.png", "000002.png", "000123.png"]
    got = cv2.imread(str(tmp_path / "out" / "000002.png"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(got, result(2).labels)


def test_full_disk_leaves_no_half_a_file(tmp_path, monkeypatch):
    def write_half(descriptor, data):
        write(descriptor, data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    sink = sink_to(tmp_path / "out")
    sink.write(result(0))
    write = os.write
    monkeypatch.setattr(os, "write", write_half)

    with pytest.raises(SinkError, match="no room is left: No space left on device"):
        sink.write(result(1))

    assert [path.name for path in (tmp_path / "out").iterdir()] == ["000000.png"]
    sink.close()


def test_detections_are_refused_before_and_while_running(tmp_path):
    message = "accepts label maps, and this bundle does .*. Write its results to .*out.jsonl"
    with pytest.raises(SinkError, match=message):
        sink_to(tmp_path / "a", task="detection")
    assert not (tmp_path / "a").exists()

    with sink_to(tmp_path / "b") as sink, pytest.raises(SinkError, match=message):
        sink.write(Result(Frame(np.zeros((2, 2, 3), np.uint8), 0, 0.0), None, 0, 0.0, {}))
