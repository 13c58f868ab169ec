"""What is prepared aside and then put in its place whole, and kept through a power loss.

A process that is killed leaves the folder that it worked in. Such a folder is told from one of a
process that is still at work by a lock, which the system lets go with the process.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PAUSE_S = 0.02
_TRIES = 100  # of names, and of locks: no two processes take each other's for long


class Workplace:
    """A new folder that is this process's alone, and is removed when it is closed.

    What is worth keeping is renamed out of it, or it itself is.

    Args:
        parent: where it is made, on the file system that its contents are for.
        prefix: what its name starts with.
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
            lock = _lock_folder(self.path)
            if lock is not None:  # else somebody took it for abandoned
                self._lock: int | None = lock
                return
        raise FileExistsError(f"no new name for a folder '{prefix}...' in {parent}")

    def close(self) -> None:
        """Remove the folder, where it is still in its place. Closing twice is allowed."""
        if self._lock is not None:
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Workplace:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def remove_abandoned(parent: Path, prefix: str) -> None:
    """Remove the workplaces of processes that are gone.

    Where nothing may be removed, nothing is; they are then the next one's to remove.

    Args:
        parent: where they are.
        prefix: what their names start with. Nothing else there may be named so.
    """
    try:
        found = [path for path in parent.iterdir() if path.name.startswith(prefix)]
    except OSError:
        return
    for path in found:
        try:
            lock = _lock_folder(path)
        except OSError:  # a link, or what is not ours
            continue
        if lock is not None:
            shutil.rmtree(path, ignore_errors=True)
            os.close(lock)


@contextmanager
def locked(folder: Path, wait_s: float) -> Iterator[None]:
    """Keep other processes that ask the same from a folder.

    Args:
        folder: is there.
        wait_s: how long to wait for another one.

    Raises:
        TimeoutError: another process keeps it longer.
        OSError: there is no such folder.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        until = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise TimeoutError(
                        f"another process has been writing to {folder} for {wait_s:.0f} seconds"
                    ) from None
                time.sleep(_PAUSE_S)
        yield
    finally:
        os.close(descriptor)


def write_durably(path: Path, data: bytes, mode: int = 0o666) -> None:
    """Write a new file, and return when the disk has it; its name is kept by ``sync_folder``."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    with open(os.open(path, flags, mode), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Return when the disk has the names in a folder, those made, moved and removed."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folders(root: Path) -> None:
    """``sync_folder`` of a folder and all below it, the innermost first."""
    for folder, _, _ in os.walk(root, topdown=False):
        sync_folder(Path(folder))


def _lock_folder(path: Path) -> int | None:
    """Lock a folder; None where another process has it, or it is gone."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_same(descriptor, path):
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(descriptor)
    return None


def _is_same(descriptor: int, path: Path) -> bool:
    """Whether a path still leads to what was opened."""
    held, found = os.fstat(descriptor), os.lstat(path)
    return stat.S_ISDIR(found.st_mode) and os.path.samestat(held, found)
