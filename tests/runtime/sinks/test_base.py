"""Rules for every sink: one error for one failure, and none hidden by another."""

import errno

import numpy as np
import pytest

from dff_edge.errors import SinkError
from dff_edge.frames import Frame, Result
from dff_edge.runtime.sinks.base import Sink

RESULT = Result(
    Frame(np.zeros((2, 2, 3), np.uint8), 0, 0.0), np.zeros((2, 2), np.uint8), 0, 0.0, {}
)


class BrokenSink(Sink):
    """Fails where it is told to."""

    def __init__(self, *, fails_in: str) -> None:
        super().__init__("broken")
        self.fails_in = fails_in

    def _write(self, result: Result) -> None:
        if "write" in self.fails_in:
            raise OSError(errno.EIO, "Input/output error")

    def _finish(self, *, has_failed: bool) -> None:
        if "close" in self.fails_in:
            raise OSError(errno.ENOSPC, "No space left on device")


def test_failed_write_is_told_once_with_its_reason():
    sink = BrokenSink(fails_in="write and close")

    with pytest.raises(SinkError, match=r"Writing 'broken' failed: Input/output error\."):
        sink.write(RESULT)

    assert sink.written == 0
    sink.close()
    sink.close()


def test_failed_close_is_told_once():
    sink = BrokenSink(fails_in="close")
    sink.write(RESULT)

    with pytest.raises(SinkError, match="no room is left.*stays readable"):
        sink.close()

    sink.close()


def test_failed_close_is_told_at_the_end_of_a_block():
    def run():
        with BrokenSink(fails_in="close") as sink:
            sink.write(RESULT)

    with pytest.raises(SinkError, match="no room is left"):
        run()


def test_error_in_a_block_is_not_hidden_by_close():
    def run():
        with BrokenSink(fails_in="close"):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run()
