"""Exclusive locks of output files and folders: one writer at a time, identified to others.

The locks are ``flock(2)`` locks of the file or folder itself. The kernel releases them when the
descriptor is closed or its process ends, in whatever way, so none is ever left behind, and they
follow a file through renames. They are advisory: only programs that use them are excluded.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from dff_edge.errors import SinkError
from dff_edge.lifetime import Closing

_LOG = logging.getLogger("dff_edge.runtime")
# EBADF: NFS locks only files that are open for writing, which a folder never is.
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL, errno.EBADF)


def lock(descriptor: int, name: str) -> bool:
    """Lock an open file or folder exclusively, without waiting.

    Args:
        descriptor: of the file; the lock is released with it. Open it for reading and writing:
            NFS locks nothing else.
        name: for messages.

    Returns:
        True; False where the file system has no locks, which is logged: NFS mounted without them,
        some FUSE file systems.

    Raises:
        SinkError: another process, or another output of this one, holds the lock.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise SinkError(
            f"'{name}' is being written by {holder(descriptor)}. Name another place, or end that "
            "process first."
        ) from error
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        _LOG.warning(
            "'%s' is on a file system without locks (%s): a second run that writes there at the "
            "same time would not be noticed",
            name,
            error.strerror,
        )
        return False
    return True


class FolderLock(Closing):
    """The exclusive lock of a folder, held until ``close``; a context manager.

    Args:
        path: an existing folder.
        name: for messages.

    Raises:
        SinkError: it is locked by another process, or cannot be opened.
    """

    def __init__(self, path: Path, name: str) -> None:
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise SinkError(f"'{name}' cannot be opened: {error.strerror}.") from error
        try:
            lock(self._descriptor, name)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Release the lock. Safe to call twice."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


@contextmanager
def own_folder(path: Path) -> Iterator[None]:
    """Create a folder where it is missing, and hold its lock for the block.

    If it was created and remains empty, it is removed.

    Raises:
        SinkError: it cannot be made, or another process holds its lock.
    """
    is_new = not path.exists()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SinkError(f"the folder '{path}' cannot be made: {error.strerror}.") from error
    try:
        with FolderLock(path, str(path)):
            yield
    finally:
        if is_new:
            with suppress(OSError):  # it is not empty
                path.rmdir()


def holder(descriptor: int) -> str:
    """Return the process that holds the lock of an open file: number, name, and start time.

    Its command line is left out: the addresses of cameras in it may contain passwords.
    """
    for pid in _pids_that_hold(descriptor):
        if pid == os.getpid():
            return "this process already, as another output"
        name = _read(f"/proc/{pid}/comm").strip()
        since = _started(pid)
        about = ", ".join([f"'{name}'"] * bool(name) + [f"running since {since}"] * bool(since))
        return f"process {pid}" + f" ({about})" * bool(about)
    return "another process, which is not visible here (in another container or on another machine)"


def _pids_that_hold(descriptor: int) -> Iterator[int]:
    about = os.fstat(descriptor)
    device = f"{os.major(about.st_dev):02x}:{os.minor(about.st_dev):02x}"
    for line in _read("/proc/locks").splitlines():
        fields = line.split()  # 1: FLOCK ADVISORY WRITE 1234 fd:01:5678 0 EOF
        if len(fields) < 6 or fields[1] != "FLOCK" or not fields[4].isdecimal():
            continue
        place, _, inode = fields[5].rpartition(":")
        if inode != str(about.st_ino):
            continue
        # Overlay file systems show another device there than stat does: compare the files that
        # the process has open, where that is allowed.
        if place == device or _has_open(int(fields[4]), about):
            yield int(fields[4])


def _has_open(pid: int, about: os.stat_result) -> bool:
    folder = Path(f"/proc/{pid}/fd")
    with suppress(OSError):
        for link in folder.iterdir():
            with suppress(OSError):
                if os.path.samestat(link.stat(), about):
                    return True
    return False


def _started(pid: int) -> str:
    """Return when a process began, in local time; empty where that is unknown."""
    with suppress(ValueError, IndexError):
        ticks = int(_read(f"/proc/{pid}/stat").rpartition(")")[2].split()[19])
        uptime_s = float(_read("/proc/uptime").split()[0])
        start_s = time.time() - uptime_s + ticks / os.sysconf("SC_CLK_TCK")
        return datetime.fromtimestamp(start_s).strftime("%Y-%m-%d %H:%M:%S")
    return ""


def _read(path: str) -> str:
    with suppress(OSError):
        return Path(path).read_text(encoding="utf-8", errors="replace")
    return ""
