"""Staging folders: files are prepared in them, then put in place whole, and survive a power loss.

A process that is killed leaves its staging folder. A lock, which the system releases with the
process, distinguishes it from the folder of a process that is still at work.
"""

from __future__ import annotations

import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dff_edge.errors import SinkError
from dff_edge.files.atomic import sync_file, sync_folder
from dff_edge.files.locks import FolderLock, lock
from dff_edge.lifetime import Closing

_PAUSE_S = 0.02
_TRIES = 100  # of names


class Workplace(Closing):
    """A new folder that belongs to this process, and is removed when it is closed.

    Files to be kept are renamed out of it, or the folder itself is.

    Args:
        parent: its parent, on the file system that its contents are for.
        prefix: the start of its name.
        mode: its permissions, less the umask.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self, parent: Path, prefix: str, mode: int = 0o777) -> None:
        for _ in range(_TRIES):
            self.path = parent / f"{prefix}{secrets.token_hex(4)}"
            try:
                self.path.mkdir(mode)
            except FileExistsError:
                continue
            descriptor = _lock_folder(self.path)
            if descriptor is not None:  # else another process took it for abandoned
                self._descriptor: int | None = descriptor
                return
        raise FileExistsError(f"no new name for a folder '{prefix}...' in {parent}")

    def close(self) -> None:
        """Remove the folder, if it is still in its place. Closing twice is allowed."""
        if self._descriptor is not None:
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._descriptor)
            self._descriptor = None


def remove_abandoned(parent: Path, prefix: str) -> None:
    """Remove the staging folders of processes that have ended.

    Those that may not be removed are left to the next process.

    Args:
        parent: their parent.
        prefix: the start of their names, which nothing else there may have.
    """
    try:
        found = [path for path in parent.iterdir() if path.name.startswith(prefix)]
    except OSError:
        return
    for path in found:
        try:
            descriptor = _lock_folder(path)
        except OSError:  # a link, or owned by another user
            continue
        if descriptor is not None:
            shutil.rmtree(path, ignore_errors=True)
            os.close(descriptor)


@contextmanager
def locked(folder: Path, wait_s: float) -> Iterator[None]:
    """Lock a folder against other processes that use this function.

    Args:
        folder: an existing one.
        wait_s: how long to wait for another process.

    Raises:
        SinkError: another process holds it longer, or there is no such folder.
    """
    until = time.monotonic() + wait_s
    while True:
        try:
            lock = FolderLock(folder, str(folder))
            break
        except SinkError:
            if time.monotonic() >= until:
                raise
            time.sleep(_PAUSE_S)
    with lock:
        yield


def write_durably(path: Path, data: bytes, mode: int = 0o666) -> None:
    """Write a new file, and return when it is on the disk; ``sync_folder`` flushes its name."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    with open(os.open(path, flags, mode), "wb") as file:
        file.write(data)
        file.flush()
        sync_file(file.fileno())


def rename_durably(source: Path, target: Path) -> None:
    """Rename a file or folder whose content is on the disk, and have the new name reach it.

    Raises:
        OSError: it cannot be renamed, for example because a folder that is not empty is there.
    """
    os.rename(source, target)
    sync_folder(target.parent)


def sync_folders(root: Path) -> None:
    """Call ``sync_folder`` for a folder and all below it, the innermost first."""
    for folder, _, _ in os.walk(root, topdown=False):
        sync_folder(Path(folder))


def _lock_folder(path: Path) -> int | None:
    """Open and lock a folder; None where another process has it, or it is gone."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags)
    except FileNotFoundError:
        return None
    try:
        lock(descriptor, str(path))
        if os.path.samestat(os.fstat(descriptor), os.lstat(path)):  # not removed in between
            return descriptor
    except (SinkError, FileNotFoundError):
        pass
    os.close(descriptor)
    return None
