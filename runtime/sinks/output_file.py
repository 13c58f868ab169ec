"""The file of a sink: it belongs to one run at a time, and a full disk is reported."""

from __future__ import annotations

import contextlib
import errno
import glob
import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from dff_edge.errors import SinkError
from dff_edge.files.atomic import (
    check_room,
    check_writable,
    open_locked,
    sync_file,
    sync_folder,
    take_over_mode,
)
from dff_edge.uri import IMAGE_SUFFIXES, parse_source

_LOG = logging.getLogger("dff_edge.runtime")
RECORDING_BYTES = 1 << 20  # with less room the disk counts as full: about a second of video
_MOST_LEFT = 1000  # recordings of killed runs beside one file


class OutputFile:
    """A file that results are written to as they come.

    Construction claims the file for this run, by a lock that the kernel releases when the process
    ends, and changes no existing file:

    - Where there is no file, or an empty one, results go to it from the start, so that programs
      can read along and a killed run leaves its recording under the requested name.
    - A recording of another run stays as it is. Results go beside it, ``drive.new.mp4`` for
      ``drive.mp4``, and replace it when the output is closed complete. A killed run leaves both;
      the next one writes to ``drive.new-2.mp4``.
    - Pipes and devices are written to directly.

    Where nothing is written, no file is left. There is no buffer in this process, so that an error
    is raised by the write that causes it.

    Args:
        path: of the file.
        uri: for messages.
        source: the source's URI, so that it is not overwritten.

    Attributes:
        path: of the requested file.
        place: the file of the results: the same, or beside it.
        error: why writing failed; later writes are dropped.

    Raises:
        SinkError: another run is writing it, its folder is missing or not writable, the disk is
            full, or it is the source.
    """

    def __init__(self, path: Path, uri: str, source: str | Path | None = None) -> None:
        self.path = path
        self.place = path
        self.error: OSError | None = None
        self._uri = uri
        self._target = path
        self._own = -1  # descriptor of the requested file: it holds the claim
        self._descriptor = -1  # of the file that is written to: the same, or the one beside it
        self._is_new = False
        check_not_source(path, uri, source)
        try:
            self._claim()
        except OSError as error:
            self.close(is_whole=False)
            if isinstance(error, SinkError):
                raise
            raise SinkError(f"'{uri}' cannot be written: {error.strerror}.") from error

    def _claim(self) -> None:
        self._target, about = check_writable(self.path, self._uri)
        if about is not None and not stat.S_ISREG(about.st_mode):
            self._own = self._descriptor = _open_special(self._target)
            return
        check_room(self._target.parent, self._uri, RECORDING_BYTES)
        self._is_new = about is None
        self._own, _ = open_locked(self._target, self._uri)
        if os.fstat(self._own).st_size == 0:
            self._descriptor = self._own
            return
        self._is_new = False
        self.place = self._free_place()

    def write(self, data: bytes | memoryview) -> int:
        """Write all of it, or raise; after an error, later writes are dropped."""
        rest = memoryview(data)
        size = len(rest)
        try:
            if self._descriptor < 0:
                self._descriptor = self._open_beside()
            while rest and self.error is None:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError as error:
            self.error = error
            raise
        return size

    def tell(self) -> int:
        """Return the position of the next byte."""
        return self.seek(0, os.SEEK_CUR)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to another position in the file."""
        return os.lseek(self._descriptor, offset, whence) if self._descriptor >= 0 else 0

    def cut(self, size: int) -> None:
        """Truncate to ``size`` bytes; possible on a full disk too."""
        with contextlib.suppress(OSError):  # a device cannot be truncated
            os.ftruncate(self._descriptor, size)

    def close(self, *, is_whole: bool = True) -> None:
        """Finish and release the file. Safe to call twice.

        Args:
            is_whole: whether to replace the other run's recording; else both stay.

        Raises:
            OSError: the recording could not be renamed; it stays beside the other one.
        """
        own, written = self._own, self._descriptor
        self._own = self._descriptor = -1
        if own < 0:
            return
        try:
            if written in (-1, own):
                if self._is_new and os.fstat(own).st_size == 0 and _is_at(self._target, own):
                    self._target.unlink()
            elif os.fstat(written).st_size == 0:
                self.place.unlink()
            elif is_whole and self.error is None:
                self._replace(own, written)
        finally:
            if written not in (-1, own):
                os.close(written)
            os.close(own)

    def what_stays(self, what: str = "What was written before") -> str:
        """Return a sentence on what remains when writing fails."""
        if self.place == self.path:
            return f"{what} stays readable."
        return f"{what} stays readable in '{self.place}', and '{self.path}' is as it was."

    def _replace(self, own: int, written: int) -> None:
        if self._target.exists() and not _is_at(self._target, own):
            _LOG.warning(
                "'%s': another file was put there meanwhile; this run's results stay in '%s'",
                self._uri,
                self.place,
            )
            return
        sync_file(written)  # the rename must not reach the disk before the data
        os.replace(self.place, self._target)
        sync_folder(self._target.parent)
        self.place = self.path

    def _free_place(self) -> Path:
        """Return a name beside the file that no killed run has left."""
        beside = self._target if self.path.is_symlink() else self.path
        left: list[str] = []
        for number in range(1, _MOST_LEFT + 1):
            ending = ".new" if number == 1 else f".new-{number}"
            place = beside.with_name(f"{beside.stem}{ending}{beside.suffix}")
            if not os.path.lexists(place):
                if left:
                    shown = ", ".join(left[:3]) + (" and others" if len(left) > 3 else "")
                    _LOG.warning(
                        "'%s': %s beside it %s left by runs that were killed, and stay%s",
                        self._uri,
                        shown,
                        "was" if len(left) == 1 else "were",
                        "s" if len(left) == 1 else "",
                    )
                return place
            left.append(place.name)
        raise SinkError(
            f"'{self._uri}': {len(left)} recordings of killed runs lie beside it, {left[0]} and "
            "others. Move them away first."
        )

    def _open_beside(self) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        descriptor = os.open(self.place, flags, 0o666)
        take_over_mode(descriptor, os.fstat(self._own))
        return descriptor


def make_folder(folder: Path, uri: str) -> bool:
    """Create a folder, if only the folder itself is missing.

    Returns:
        Whether it was missing; see ``remove_if_empty``.

    Raises:
        SinkError: it cannot be created, or is a file.
    """
    try:
        folder.mkdir()
    except FileNotFoundError as error:
        raise SinkError(
            f"'{uri}' cannot be written: there is no folder '{folder.parent}'. Make it first: "
            f"mkdir -p '{folder}'"
        ) from error
    except FileExistsError as error:
        if not folder.is_dir():
            raise SinkError(f"'{uri}': '{folder}' is a file, expected a folder.") from error
        return False
    except OSError as error:
        raise SinkError(f"'{uri}' cannot be written: {error.strerror}.") from error
    return True


def remove_if_empty(folder: Path) -> None:
    """Remove a folder unless it contains something."""
    with contextlib.suppress(OSError):  # it is not empty
        folder.rmdir()


def check_not_source(path: Path, uri: str, source: str | Path | None) -> None:
    """Raise when an output would overwrite a file, or write into a folder, that is being read.

    Raises:
        SinkError: it is the source, or a part of it.
    """
    if source is None or not path.exists():
        return
    if any(read.exists() and path.samefile(read) for read in files_of(source)):
        raise SinkError(
            f"'{uri}' is the source itself and would be overwritten; choose another name."
        )


def files_of(source: str | Path) -> Iterator[Path]:
    """Return the files that a source reads, and the folders of its images."""
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


def _is_at(path: Path, descriptor: int) -> bool:
    """Return whether an open file still has that name."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _open_special(path: Path) -> int:
    """Open a pipe or device for writing; log that a named pipe waits for its reader."""
    flags = os.O_WRONLY | os.O_CLOEXEC
    if not path.is_fifo():
        return os.open(path, flags)
    try:
        descriptor = os.open(path, flags | os.O_NONBLOCK)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        _LOG.warning("'%s' is a pipe without a reader: waiting for one", path)
        return os.open(path, flags)
    os.set_blocking(descriptor, True)
    return descriptor
