"""Sinks that the tests tell when to wait and when to fail."""

import queue
import threading
import time

import numpy as np

from dff_edge.frames import Frame, Result
from dff_edge.runtime.sinks import FanOut
from dff_edge.runtime.sinks.base import Sink

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


def wait_until(condition):
    end_s = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.02)  # of another thread, seen only by asking


def sink_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("dff-sink")]
