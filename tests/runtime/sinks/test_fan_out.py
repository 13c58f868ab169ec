"""Sinks that fail, stall and dawdle beside one that does not."""

import logging
import os
import queue
import signal
import subprocess
import sys
import textwrap
import threading
import time
from types import SimpleNamespace

import av
import numpy as np
import pytest

from dff_edge.runtime.errors import SinkError
from dff_edge.runtime.frames import Frame, Result
from dff_edge.runtime.sinks import FanOut, open_sink
from dff_edge.runtime.sinks import fan_out as fan_out_module
from dff_edge.runtime.sinks.base import Sink
from dff_edge.runtime.sinks.fan_out import QUEUED

STALL_S = 0.2
WAIT_S = 20  # for what must happen; far more than it takes


def result(index):
    frame = Frame(np.zeros((16, 16, 3), np.uint8), index, index / 30)
    return Result(frame, np.zeros((16, 16), np.uint8), index, 0.0, {})


class RecordingSink(Sink):
    """Remembers what it was given and by which thread."""

    def __init__(self, uri="recording", *, needs_caller=False):
        super().__init__(uri)
        self.needs_caller = needs_caller
        self.indices = []
        self.threads = set()
        self.is_closed = False

    def _write(self, result):
        self.threads.add(threading.current_thread())
        self.indices.append(result.frame.index)

    def _finish(self, *, has_failed):
        self.threads.add(threading.current_thread())
        self.is_closed = True


class GatedSink(RecordingSink):
    """Waits in ``write`` until the test lets it go on, or fail."""

    def __init__(self, uri="gated", *, gate="write", fails=False):
        super().__init__(uri)
        self._fails = fails
        self.entered = queue.SimpleQueue()
        self.passes = threading.Semaphore(0)
        self._gate = gate

    def _wait(self):
        self.entered.put(None)
        assert self.passes.acquire(timeout=WAIT_S)

    def _write(self, result):
        if self._gate == "write":
            self._wait()
        if self._fails:
            raise OSError(5, "Input/output error")
        super()._write(result)

    def _finish(self, *, has_failed):
        if self._gate == "close":
            self._wait()
        super()._finish(has_failed=has_failed)


class FailingSink(RecordingSink):
    """Fails at one frame, or when it is closed."""

    def __init__(self, uri="failing", *, at=None, error=None):
        super().__init__(uri)
        self._at = at
        self._error = error or OSError(5, "Input/output error")

    def _write(self, result):
        if result.frame.index == self._at:
            raise self._error
        super()._write(result)

    def _finish(self, *, has_failed):
        super()._finish(has_failed=has_failed)
        if self._at is None:
            raise self._error


def fan_out_to(*sinks, live=False, stall_s=WAIT_S):
    fan_out = FanOut(live=live, stall_s=stall_s)
    for sink in sinks:
        fan_out.add(sink)
    return fan_out


def sink_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("dff-sink")]


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    assert sink_threads() == []


@pytest.mark.parametrize("live", [False, True], ids=["file", "live"])
def test_every_sink_gets_all_it_can_take_in_order(live):
    sinks = [RecordingSink(name) for name in "abc"]
    with fan_out_to(*sinks, live=live) as fan_out:
        for index in range(QUEUED):  # so many fit, however slow the threads are
            fan_out.write(result(index))

    for sink in sinks:
        assert sink.indices == list(range(QUEUED))
        assert sink.is_closed
    assert [(r.uri, r.written, r.lost, r.failure) for r in fan_out.reports] == [
        (name, QUEUED, 0, None) for name in "abc"
    ]


def test_each_sink_has_a_thread_of_its_own_but_a_window_has_the_callers():
    sinks = [RecordingSink(), RecordingSink(), RecordingSink(needs_caller=True)]
    with fan_out_to(*sinks) as fan_out:
        fan_out.write(result(0))

    threads = [sink.threads.pop() for sink in sinks]
    assert not any(sink.threads for sink in sinks)
    assert len(set(threads)) == 3
    assert threads[2] is threading.current_thread()


def test_nothing_is_lost_from_a_file_however_slow_a_sink_is():
    gated, free = GatedSink(), RecordingSink()
    total = 10 * QUEUED
    fan_out = fan_out_to(gated, free)
    gated.passes.release(total)
    with fan_out:
        for index in range(total):
            fan_out.write(result(index))

    assert gated.indices == free.indices == list(range(total))


def test_slow_sink_holds_up_a_file_with_a_bounded_queue():
    gated = GatedSink()
    fan_out = fan_out_to(gated)
    offered = []

    def offer():
        for index in range(3 * QUEUED):
            fan_out.write(result(index))
            offered.append(index)

    caller = threading.Thread(target=offer)
    caller.start()
    gated.entered.get(timeout=WAIT_S)
    caller.join(0.1)  # it waits: nothing tells that it does
    assert len(offered) == QUEUED

    gated.passes.release(3 * QUEUED)
    caller.join(WAIT_S)
    fan_out.close()
    assert gated.indices == list(range(3 * QUEUED))


def test_slow_sink_of_a_live_source_loses_the_oldest_and_delays_nobody(caplog):
    gated, free = GatedSink("slow"), RecordingSink("free")
    fan_out = fan_out_to(gated, live=True)
    fan_out.write(result(0))
    gated.entered.get(timeout=WAIT_S)  # holds 0
    with caplog.at_level(logging.WARNING):
        for index in range(1, 100):
            fan_out.write(result(index))  # returns, though nobody takes anything
    assert fan_out.reports[0].lost == 100 - QUEUED

    gated.passes.release(100)
    fan_out.close()
    free.close()
    newest = list(range(100 - QUEUED + 1, 100))
    assert gated.indices == [0, *newest]
    (report,) = fan_out.reports
    assert (report.written, report.lost, report.failure) == (QUEUED, 100 - QUEUED, None)
    assert len(caplog.records) == 1
    assert "slow is slower than the source" in caplog.text


@pytest.mark.parametrize("needs_caller", [False, True], ids=["thread", "caller"])
def test_failure_is_told_and_counted_and_the_others_go_on(caplog, needs_caller):
    failing, free = FailingSink("bad.jsonl", at=2), RecordingSink()
    failing.needs_caller = needs_caller
    start = time.monotonic()
    with fan_out_to(failing, free) as fan_out:
        for index in range(50):
            fan_out.write(result(index))
        assert not fan_out.is_dead

    assert time.monotonic() - start < WAIT_S  # it is not taken for a stall
    bad, good = fan_out.reports
    assert (bad.written, bad.lost) == (2, 48)
    assert bad.failure == "Writing 'bad.jsonl' failed: Input/output error."
    assert caplog.text.count("Writing 'bad.jsonl' failed") == 1
    assert failing.is_closed
    assert (good.written, good.lost, good.failure) == (50, 0, None)
    assert free.is_closed


def test_caller_that_waits_for_a_sink_goes_on_when_it_fails():
    failing, free = GatedSink(fails=True), RecordingSink()
    fan_out = fan_out_to(failing, free)

    def offer():
        for index in range(3 * QUEUED):
            fan_out.write(result(index))

    caller = threading.Thread(target=offer)
    caller.start()
    failing.entered.get(timeout=WAIT_S)
    caller.join(0.1)  # it waits: nothing tells that it does
    failing.passes.release()
    caller.join(WAIT_S / 2)  # sooner than it would give up

    assert not caller.is_alive()
    fan_out.close()
    assert free.indices == list(range(3 * QUEUED))


def test_any_error_of_one_sink_spares_the_others(caplog):
    failing, free = FailingSink(at=0, error=ZeroDivisionError("a bug")), RecordingSink()
    with fan_out_to(failing, free) as fan_out:
        for index in range(20):
            fan_out.write(result(index))

    assert fan_out.reports[0].failure == "a bug"
    assert "Traceback" in caplog.text
    assert free.indices == list(range(20))


def test_failed_close_is_told(caplog):
    with fan_out_to(FailingSink("bad.mp4"), RecordingSink()) as fan_out:
        fan_out.write(result(0))

    assert fan_out.reports[0].failure == "Writing 'bad.mp4' failed: Input/output error."
    assert "bad.mp4" in caplog.text


def test_dead_is_when_no_sink_is_left():
    fan_out = fan_out_to(FailingSink("a", at=0), FailingSink("b", at=0))
    assert not fan_out.is_dead
    fan_out.write(result(0))
    fan_out.close()

    assert fan_out.is_dead
    assert not fan_out_to().is_dead


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
    assert "'pipe.jsonl' made no progress for 0.2 s and was given up" in gone.failure
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


def test_window_gets_half_of_a_live_callers_time_at_most(monkeypatch):
    # 0 is drawn from 0 s to 10 s, so the window rests until 20 s: 1 and 2 come too early for it.
    clock = SimpleNamespace(monotonic=iter([0, 10, 11, 19, 21, 31]).__next__)
    monkeypatch.setattr(fan_out_module, "time", clock)
    window = RecordingSink(needs_caller=True)
    with fan_out_to(window, live=True) as fan_out:
        for index in range(4):
            fan_out.write(result(index))

    assert window.indices == [0, 3]
    assert fan_out.reports[0].lost == 2


def test_person_can_ask_to_stop():
    window = RecordingSink(needs_caller=True)
    with fan_out_to(RecordingSink(), window) as fan_out:
        assert not fan_out.stop_requested
        window.stop_requested = True
        assert fan_out.stop_requested


def test_closed_sinks_take_nothing():
    fan_out = fan_out_to(RecordingSink())
    fan_out.close()

    with pytest.raises(SinkError, match="were closed"):
        fan_out.write(result(0))


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
        from dff_edge.runtime.frames import Frame, Result
        from dff_edge.runtime.sinks import FanOut, open_sink
        from dff_edge.runtime.sinks.base import Sink

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
