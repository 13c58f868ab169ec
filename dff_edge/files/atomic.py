"""Files that are replaced as a whole or not at all, by one writer at a time.

Content is written to ``.NAME.new`` beside its place, flushed to the disk, and renamed: a reader
sees the old file or the new one, and a full disk, an error or a killed process leaves the old one
as it was.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path

from dff_edge.errors import SinkError
from dff_edge.files.locks import lock
from dff_edge.lifetime import Closing

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # full disk, quota, size limit
_NO_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS)  # the file system cannot flush
_LEAST_FREE_BYTES = 1 << 16


class AtomicFile(Closing):
    """A file that is replaced atomically; a context manager.

    Construction claims the place: a second ``AtomicFile`` of it is refused, in every process, until
    this one is closed. Leaving without ``commit`` changes nothing. The staging file of a process
    that was killed is reused by the next writer.

    Links are followed. An existing file that is not regular (a pipe, ``/dev/stdout``) is neither
    locked nor replaced: it is opened at the first ``write`` and written to.

    Args:
        path: the file, which need not exist; its folder must.
        durable: whether content is on the disk before the file is replaced, so that a power cut
            leaves one or the other; costs a flush.
        mode: permissions of a file that was not there, less the umask.

    Raises:
        SinkError: another process is writing it, its folder is missing or may not be written to,
            or the disk is full. So do ``write`` and ``commit``.
    """

    def __init__(self, path: str | Path, *, durable: bool = True, mode: int = 0o666) -> None:
        self.path = Path(path)
        self._mode = mode
        self._durable = durable
        self._target = self.path
        self._staged: Path | None = None
        self._descriptor = -1
        try:
            self._begin()
        except OSError as error:
            self.close()
            raise _explained(error, self.path) from error

    def _begin(self) -> None:
        self._target, about = check_writable(self.path)
        if about is not None and not stat.S_ISREG(about.st_mode):
            return
        check_room(self._target.parent, self.path)
        self._staged = self._target.with_name(f".{self._target.name}.new")
        self._descriptor, is_locked = open_locked(self._staged, self.path, self._mode)
        if not is_locked:  # others may use the same staging file: use one of our own
            self._staged.unlink(missing_ok=True)
            os.close(self._descriptor)
            self._staged = self._target.with_name(f".{self._target.name}.{os.getpid()}.new")
            self._descriptor = os.open(self._staged, _FLAGS, self._mode)
        os.ftruncate(self._descriptor, 0)
        if about is not None:
            take_over_mode(self._descriptor, about)

    def write(self, data: str | bytes | memoryview) -> None:
        """Append to the content; text is encoded as UTF-8."""
        rest = memoryview(data.encode() if isinstance(data, str) else data)
        try:
            if self._descriptor < 0:
                self._descriptor = os.open(self._target, os.O_WRONLY | os.O_CLOEXEC)
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError as error:
            raise _explained(error, self.path) from error

    def commit(self) -> None:
        """Replace the file by the content."""
        if self._staged is None:
            return
        try:
            if self._durable:
                sync_file(self._descriptor)  # the rename must not reach the disk first
            os.replace(self._staged, self._target)
            self._staged = None
            if self._durable:
                sync_folder(self._target.parent)
        except OSError as error:
            raise _explained(error, self.path) from error

    def close(self) -> None:
        """Drop uncommitted content, and release the claim. Safe to call twice."""
        if self._staged is not None and self._descriptor >= 0:  # while the lock is held
            with suppress(OSError):
                self._staged.unlink()
        descriptor, self._descriptor = self._descriptor, -1
        self._staged = None
        if descriptor >= 0:
            os.close(descriptor)


_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


def write_atomically(
    path: str | Path, data: str | bytes, *, durable: bool = True, mode: int = 0o666
) -> None:
    """Replace a file atomically; see ``AtomicFile`` for arguments and errors.

    Example:
        >>> write_atomically("run.json", "{}")  # doctest: +SKIP
    """
    with AtomicFile(path, durable=durable, mode=mode) as file:
        file.write(data)
        file.commit()


def open_locked(path: Path, name: str | Path, mode: int = 0o666) -> tuple[int, bool]:
    """Open a file for reading and writing, created where it is missing, and lock it.

    Args:
        path: the file.
        name: for messages.
        mode: permissions of a new file, less the umask.

    Returns:
        Its descriptor, and whether it is locked: False on file systems without locks.

    Raises:
        SinkError: another process holds the lock.
        OSError: it cannot be opened.
    """
    while True:
        descriptor = os.open(path, _FLAGS, mode)
        try:
            is_locked = lock(descriptor, str(name))
            about = _stat(path)
            # Between open and lock another process may have renamed or removed the file.
            if about is not None and os.path.samestat(about, os.fstat(descriptor)):
                return descriptor, is_locked
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def check_writable(
    path: Path, name: str | Path | None = None
) -> tuple[Path, os.stat_result | None]:
    """Check whether a file could be written, without opening it.

    Args:
        path: the file, which need not exist; links are followed.
        name: for messages; None for the path.

    Returns:
        Its real path, and its status: None if it does not exist.

    Raises:
        SinkError: it is a folder, read-only, or in a folder that is missing or may not be written
            to.
    """
    name = path if name is None else name
    try:
        about = _stat(path)
    except OSError as error:
        raise _explained(error, path) from error
    if about is not None and not stat.S_ISREG(about.st_mode):
        if stat.S_ISDIR(about.st_mode):
            raise SinkError(f"'{name}' is a folder, expected a file.")
        return path, about  # a link to a pipe of this process leads nowhere by name
    target = Path(os.path.realpath(path))
    check_folder(target.parent if path.is_symlink() else path.parent, name)
    if about is not None and not os.access(target, os.W_OK):
        raise SinkError(f"'{name}' cannot be written: it is read-only.")
    return target, about


def check_folder(folder: Path, name: str | Path) -> None:
    """Raise ``SinkError`` where a folder is missing or may not be written to."""
    if not folder.is_dir():
        raise SinkError(
            f"'{name}' cannot be written: there is no folder '{folder}'. Make it first: "
            f"mkdir -p '{folder}'"
        )
    if not os.access(folder, os.W_OK | os.X_OK):
        raise SinkError(f"'{name}' cannot be written: the folder '{folder}' is not writable.")


def check_room(folder: Path, name: str | Path, least_bytes: int = _LEAST_FREE_BYTES) -> None:
    """Raise ``SinkError`` where the disk of a folder has less room left than ``least_bytes``."""
    try:
        disk = os.statvfs(folder)
    except OSError:  # then writing reports more
        return
    free_bytes = disk.f_bavail * disk.f_frsize
    if disk.f_blocks and free_bytes < least_bytes:
        raise SinkError(
            f"'{name}' cannot be written, no room is left: the disk of '{folder}' has "
            f"{free_bytes / 1e6:.1f} MB free. Make room, or write somewhere else."
        )


def is_no_room(error: OSError) -> bool:
    """Return whether an error means that the disk is full, or that a limit is reached."""
    return error.errno in _NO_ROOM


def take_over_mode(descriptor: int, about: os.stat_result) -> None:
    """Copy the mode, and where allowed the owner, of the replaced file to an open one."""
    with suppress(OSError):  # some file systems have no modes
        os.fchmod(descriptor, stat.S_IMODE(about.st_mode))
        os.fchown(descriptor, about.st_uid, about.st_gid)


def sync_file(descriptor: int) -> None:
    """Flush the content of a file to the disk, where its file system supports it.

    Raises:
        OSError: the disk is full or broken, which some file systems report only now.
    """
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise


def sync_folder(folder: Path) -> None:
    """Flush the names in a folder to the disk, where its file system supports it."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _explained(error: OSError, path: Path) -> SinkError:
    if isinstance(error, SinkError):
        return error
    reason = error.strerror or str(error)
    if is_no_room(error):
        return SinkError(
            f"'{path}' cannot be written, no room is left: {reason}. The file that was there is "
            "unchanged. Make room, or write somewhere else."
        )
    return SinkError(f"'{path}' cannot be written: {reason}.")
