"""What every sink has in common, and the file that does not hide a full disk."""

from __future__ import annotations

import contextlib
import errno
import glob
import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from dff_edge.runtime.errors import SinkError, is_out_of_memory, words_of
from dff_edge.runtime.frames import Result
from dff_edge.runtime.lifetime import bind
from dff_edge.runtime.uri import IMAGE_SUFFIXES, parse_source

_LOG = logging.getLogger("dff_edge.runtime")
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # full disk, quota, size limit


class Sink(ABC):
    """An open sink of results and a context manager; for one thread.

    After a failed ``write`` the sink is dead: further writes raise, ``close`` does not, and what
    was written before stays readable.

    Attributes:
        uri: as the user wrote it.
        written: results taken so far.
        stop_requested: whether the person watching asked to stop (only a window does).
        needs_caller: whether it must be written to and closed by the thread that opened it (only a
            window must); all others may be handed to another thread.
    """

    needs_caller = False
    _kept = "What was written before stays readable."

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.written = 0
        self.stop_requested = False
        self._is_closed = False
        self._failure: SinkError | None = None
        bind(self)

    def write(self, result: Result) -> None:
        """Take one result; blocks until it is handed to the system.

        Raises:
            SinkError: it cannot be written, or the sink failed or was closed before.
        """
        if self._is_closed:
            raise SinkError(f"'{self.uri}' was closed; open a new sink.")
        if self._failure is not None:  # nor does FFmpeg survive it
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

    def idle(self) -> None:  # noqa: B027 - most have nothing to do
        """Use a while without results: a window looks at its keys. To be called often.

        Raises:
            SinkError: it can take no more results.
        """

    def close(self) -> None:
        """Finish what is written and let go of it. Safe to call twice.

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

    def __enter__(self) -> Sink:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
            return
        with contextlib.suppress(SinkError):  # must not hide what went wrong first
            self.close()

    @abstractmethod
    def _write(self, result: Result) -> None:
        """Write one result; an OSError becomes a SinkError."""

    def _finish(self, *, has_failed: bool) -> None:  # noqa: B027 - most hold nothing open
        """Release everything, whatever happens."""

    def _explain(self, error: OSError) -> SinkError:
        reason = error.strerror or str(error)
        if error.errno not in _NO_ROOM:
            return SinkError(f"Writing '{self.uri}' failed: {reason}.")
        return SinkError(
            f"Writing '{self.uri}' failed, no room is left: {reason}. {self._kept} Make room, or "
            "write somewhere else."
        )


class NullSink(Sink):
    """Counts results and forgets them."""

    def _write(self, result: Result) -> None:
        pass


class OutputFile:
    """A file that is written without a buffer of its own, so that an error comes where it
    happens."""

    def __init__(self, path: Path) -> None:
        self.path = path
        opener = _open_pipe if path.is_fifo() else None
        self._file = open(path, "wb", buffering=0, opener=opener)  # noqa: SIM115 - see close
        self.error: OSError | None = None

    def write(self, data: bytes | memoryview) -> int:
        """Write all of it, or raise; after an error, what follows is swallowed."""
        rest = memoryview(data)
        size = len(rest)
        try:
            while rest and self.error is None:
                rest = rest[self._file.write(rest) or 0 :]
        except OSError as error:
            self.error = error
            raise
        return size

    def tell(self) -> int:
        """Where the next byte goes."""
        return self._file.tell()

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go elsewhere in the file."""
        return self._file.seek(offset, whence)

    def cut(self, size: int) -> None:
        """Drop what is beyond ``size`` bytes; possible on a full disk too."""
        with contextlib.suppress(OSError):  # a device cannot be cut
            self._file.truncate(size)

    def close(self) -> None:
        """Close the file; safe to call twice."""
        self._file.close()


def open_output(path: Path, uri: str, source: str | Path | None) -> OutputFile:
    """Open a file for writing, or say why not.

    Raises:
        SinkError: no such folder, no permission, or it is the source.
    """
    check_not_source(path, uri, source)
    if path.is_dir():
        raise SinkError(f"'{uri}' is a folder, expected a file.")
    if not path.parent.is_dir():
        raise SinkError(
            f"'{uri}' cannot be written: there is no folder '{path.parent}'. Make it first: "
            f"mkdir -p '{path.parent}'"
        )
    try:
        return OutputFile(path)
    except OSError as error:
        raise SinkError(f"'{uri}' cannot be written: {error.strerror}.") from error


def check_not_source(path: Path, uri: str, source: str | Path | None) -> None:
    """Refuse to write over a file, or into a folder, that is being read.

    Raises:
        SinkError: it is the source, or a part of it.
    """
    if source is None or not path.exists():
        return
    if any(read.exists() and path.samefile(read) for read in _files_and_folders_of(source)):
        raise SinkError(
            f"'{uri}' is the source itself and would be overwritten; choose another name."
        )


def _files_and_folders_of(source: str | Path) -> Iterator[Path]:
    parsed = parse_source(source)
    target = Path(parsed.target)
    if parsed.kind == "video":
        yield target
    elif parsed.kind == "images":
        if target.is_dir():
            found = list(target.iterdir())
        elif os.path.lexists(target):
            found = [target]
        else:
            found = [Path(name) for name in glob.glob(parsed.target, recursive=True)]
        images = [path for path in found if path.suffix.lower() in IMAGE_SUFFIXES]
        yield from {image.parent for image in images}
        yield from images


def _open_pipe(path: str, flags: int) -> int:
    """Open a named pipe for writing, which waits for its reader, and say so if it has none."""
    try:
        descriptor = os.open(path, flags | os.O_NONBLOCK)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        _LOG.warning("'%s' is a pipe that nobody reads yet: waiting for its reader", path)
        return os.open(path, flags)
    os.set_blocking(descriptor, True)
    return descriptor
