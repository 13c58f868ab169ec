"""The base of all sinks."""

from __future__ import annotations

import contextlib
import logging
from abc import abstractmethod
from pathlib import Path
from types import TracebackType

from dff_edge.errors import SinkError, is_out_of_memory, words_of
from dff_edge.files.atomic import is_no_room
from dff_edge.frames import Result
from dff_edge.lifetime import Closing, bind
from dff_edge.runtime.sinks.output_file import OutputFile

_LOG = logging.getLogger("dff_edge.runtime")


class Sink(Closing):
    """An open sink of results and a context manager; for one thread.

    After a failed ``write`` the sink cannot be used: further writes raise, ``close`` does not, and
    the results written before stay readable.

    Attributes:
        uri: as the user wrote it.
        written: number of results written so far.
        stop_requested: whether the user asked to stop (only in a window).
        needs_caller: whether it must be written to and closed by the thread that opened it (only a
            window must); all others may be used in another thread.
    """

    needs_caller = False

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.written = 0
        self.stop_requested = False
        self._is_closed = False
        self._failure: SinkError | None = None
        bind(self)

    def write(self, result: Result) -> None:
        """Write one result; blocks until it is handed to the system.

        Raises:
            SinkError: it cannot be written, or the sink failed or was closed before.
        """
        if self._is_closed:
            raise SinkError(f"'{self.uri}' was closed; open a new sink.")
        if self._failure is not None:  # FFmpeg cannot continue either
            raise SinkError(f"{self._failure} (from an earlier write)") from self._failure
        try:
            self._write(result)
        except SinkError as error:
            self._failure = error
            raise
        except OSError as error:
            self._failure = self._explain(error)
            raise self._failure from error
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            self._failure = SinkError(f"Writing '{self.uri}' failed: {words_of(error)}.")
            raise self._failure from error
        self.written += 1

    @property
    def place(self) -> Path | None:
        """The file or folder of the results; None for a sink that keeps none."""
        return None

    @property
    def replaces(self) -> Path | None:
        """The other run's file that ``place`` replaces when the sink is closed, if there is one."""
        return None

    def idle(self) -> None:  # noqa: B027 - most have nothing to do
        """Use the time between results: a window reads its keys. To be called often.

        Raises:
            SinkError: it can accept no more results.
        """

    def close(self) -> None:
        """Finish the output and release it. Safe to call twice.

        Raises:
            SinkError: the last data could not be written; never after a failed ``write``.
        """
        if self._is_closed:
            return
        self._is_closed = True
        try:
            self._finish(has_failed=self._failure is not None)
        except OSError as error:
            if self._failure is None:
                self._failure = error if isinstance(error, SinkError) else self._explain(error)
                raise self._failure from error

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
            return
        with contextlib.suppress(SinkError):  # must not hide the first error
            self.close()

    @abstractmethod
    def _write(self, result: Result) -> None:
        """Write one result; an OSError becomes a SinkError."""

    def _finish(self, *, has_failed: bool) -> None:  # noqa: B027 - most hold nothing open
        """Release everything, whatever happens."""

    def _explain(self, error: OSError) -> SinkError:
        reason = error.strerror or str(error)
        if not is_no_room(error):
            return SinkError(f"Writing '{self.uri}' failed: {reason}.")
        return SinkError(
            f"Writing '{self.uri}' failed, no room is left: {reason}. {self._kept()} Make room, or "
            "write somewhere else."
        )

    def _kept(self) -> str:
        """Return a sentence on what remains readable after the disk is full."""
        return "What was written before stays readable."


class FileSink(Sink):
    """A sink that writes one file as results come; for the file see ``OutputFile``."""

    def __init__(self, path: Path, uri: str, source: str | Path | None) -> None:
        super().__init__(uri)
        self._file = OutputFile(path, uri, source)

    @property
    def place(self) -> Path:
        return self._file.place

    @property
    def replaces(self) -> Path | None:
        return None if self._file.place == self._file.path else self._file.path


class NullSink(Sink):
    """Counts results and drops them."""

    def _write(self, result: Result) -> None:
        pass
