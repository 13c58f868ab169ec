"""What holds for every sink: one error for one failure, and none hidden by another."""

import errno
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from dff_edge.runtime.errors import SinkError
from dff_edge.runtime.frames import Frame, Result
from dff_edge.runtime.sinks.base import OutputFile, Sink

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


def test_file_writes_all_or_raises(tmp_path):
    code = """
        import resource, sys
        from pathlib import Path
        from dff_edge.runtime.sinks.base import OutputFile

        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        file = OutputFile(Path(sys.argv[1]))
        try:
            file.write(bytes(1500))
        except OSError as error:
            print(error.strerror, file.tell(), file.write(b"swallowed"))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "x")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.stdout == "File too large 1000 9\n", done.stderr
    assert (tmp_path / "x").stat().st_size == 1000


def test_file_can_be_cut(tmp_path):
    file = OutputFile(tmp_path / "x")
    file.write(b"whole line\nhalf a l")
    file.cut(11)
    file.close()
    file.close()

    assert (tmp_path / "x").read_bytes() == b"whole line\n"
