"""Sinks that stall beside one that does not."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import av
import pytest

from dff_edge.runtime.sinks import FanOut, open_sink
from dff_edge.runtime.sinks.fan_out import QUEUED
from tests.runtime.sinks.standins import (
    WAIT_S,
    GatedSink,
    RecordingSink,
    fan_out_to,
    result,
    sink_threads,
)

STALL_S = 2.0  # of the good sinks too, which a busy machine holds up


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    assert sink_threads() == []


def test_stalled_sink_is_given_up_and_the_others_get_everything(caplog):
    stalled, free = GatedSink("pipe.jsonl"), RecordingSink()
    fan_out = fan_out_to(stalled, free, stall_s=STALL_S)
    start = time.monotonic()
    for index in range(50):
        fan_out.write(result(index))
    fan_out.close()

    assert STALL_S <= time.monotonic() - start < WAIT_S
    assert free.indices == list(range(50))
    gone = fan_out.reports[0]
    assert (gone.written, gone.lost) == (0, 50)
    assert f"'pipe.jsonl' made no progress for {STALL_S:g} s and was given up" in gone.failure
    assert caplog.text.count("was given up") == 1
    stalled.passes.release()  # it comes back: then it is closed, and its thread ends
    for thread in sink_threads():
        thread.join(WAIT_S)
    assert stalled.is_closed


@pytest.mark.parametrize("live", [False, True], ids=["file", "live"])
@pytest.mark.parametrize("gate", ["write", "close"])
def test_close_does_not_wait_for_a_stalled_sink(gate, live):
    stalled, free = GatedSink(gate=gate), RecordingSink()
    fan_out = fan_out_to(stalled, free, live=live, stall_s=STALL_S)
    fan_out.write(result(0))
    fan_out.close()
    fan_out.close()

    assert free.is_closed
    assert "was given up" in fan_out.reports[0].failure
    stalled.passes.release()
    for thread in sink_threads():
        thread.join(WAIT_S)


def test_sink_that_gets_on_is_not_given_up_however_long_it_takes_in_all():
    class SlowSink(RecordingSink):
        def _write(self, result):
            threading.Event().wait(0.4 * stall_s)
            super()._write(result)

    stall_s = 1.0
    slow = SlowSink()
    with fan_out_to(slow, stall_s=stall_s) as fan_out:
        for index in range(QUEUED):
            fan_out.write(result(index))

    assert fan_out.reports[0].failure is None
    assert slow.indices == list(range(QUEUED))


def test_pipe_that_nobody_reads_does_not_spoil_the_video(tmp_path):
    """Real sinks: a pipe that is full for good, and a video."""
    options = {"classes": ["a"], "colours": [(0, 0, 0)], "fps": 30}
    os.mkfifo(tmp_path / "pipe.jsonl")
    reader = os.open(tmp_path / "pipe.jsonl", os.O_RDONLY | os.O_NONBLOCK)
    fan_out = FanOut(live=False, stall_s=STALL_S)
    for name in ("pipe.jsonl", "out.mp4"):
        fan_out.add(open_sink(tmp_path / name, **options))
    for index in range(500):  # 64 KiB are in the pipe long before
        fan_out.write(result(index))
    fan_out.close()
    os.close(reader)  # the blocked write fails, and the thread ends
    for thread in sink_threads():
        thread.join(WAIT_S)

    pipe, video = fan_out.reports
    assert "was given up" in pipe.failure
    assert (video.written, video.lost, video.failure) == (500, 0, None)
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 500


def test_ctrl_c_while_a_sink_holds_up_the_caller_leaves_whole_files(tmp_path):
    code = """
        import sys, threading
        import numpy as np
        from dff_edge import lifetime
        from dff_edge.frames import Frame, Result
        from dff_edge.runtime.sinks import FanOut, open_sink
        from dff_edge.runtime.sinks.base import Sink

        lifetime.EXIT_S = 1.0  # the sink's thread never ends

        class Stalled(Sink):
            def _write(self, result):
                print("stalled", flush=True)
                threading.Event().wait()

        with FanOut(live=False, stall_s=5) as fan_out:
            fan_out.add(open_sink(sys.argv[1], classes=["a"], colours=[(0, 0, 0)], fps=30))
            fan_out.add(Stalled("stalled"))
            try:
                for index in range(100):
                    image = np.zeros((48, 64, 3), np.uint8)
                    fan_out.write(Result(Frame(image, index, index / 30), image[..., 0], 0, 0, {}))
            except KeyboardInterrupt:
                print(index, flush=True)
        print(*[(report.written, bool(report.failure)) for report in fan_out.reports])
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "out.mp4")],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "stalled\n"
        process.send_signal(signal.SIGINT)
        shown, _ = process.communicate(timeout=60)

    index, reports = shown.splitlines()
    with av.open(str(tmp_path / "out.mp4")) as container:
        count = sum(1 for _ in container.decode(video=0))
    assert count >= int(index)
    assert reports == f"({count}, False) (0, True)"
    assert process.returncode == 0
