"""Reading a bundle's folder: plain files that the manifest lists, through no link.

A commit is one rename, from ``.staging-<random>`` to ``.commit``; the files in it are moved to
their places afterwards (``commit``). So readers look a file up in ``.commit`` first, and need
no write permission: a bundle whose writer was killed at any moment reads as the old one or the
new one.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from dff_edge.bundle.manifest import MAX_MANIFEST_BYTES, listed_files
from dff_edge.bundle.paths import (
    COMMITTED_NAME,
    MANIFEST_NAME,
    REPLACED_NAME,
    STAGING_PREFIX,
    path_problem,
)
from dff_edge.errors import BundleError
from dff_edge.printable import printable

MAX_ENTRIES = 1000  # in a folder; a bundle has about 30 files


class BundleFolder:
    """Reads a bundle's files.

    Args:
        root: the folder, absolute. The folder itself may be a link.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.committed = root / COMMITTED_NAME

    def manifest_bytes(self) -> bytes:
        """Read the current manifest.

        Raises:
            BundleError: there is none, or it is too large, or no plain file.
        """
        found = [base for base in self._bases() if os.path.lexists(base / MANIFEST_NAME)]
        if not found:
            raise BundleError(
                f"{self.root} holds no {MANIFEST_NAME}, so it is not a bundle. "
                "`dff-edge export` makes one from a checkpoint."
            )
        with self.open_file(MANIFEST_NAME, MAX_MANIFEST_BYTES) as (file, size):
            return file.read(size)

    @contextmanager
    def open_file(self, name: str, max_bytes: int) -> Iterator[tuple[BinaryIO, int]]:
        """Open a plain file, and return it with its size.

        Raises:
            BundleError: it is missing, a link, no plain file, or larger than ``max_bytes``.
        """
        problem = path_problem(name)
        if problem:  # the manifest was checked; this guards future callers
            raise BundleError(
                f"{self.root}: {name!r} is not a file name of a bundle, expected {problem}."
            )
        try:
            with self._open(name) as file:
                status = os.fstat(file.fileno())
                if not stat.S_ISREG(status.st_mode):
                    raise BundleError(f"{self.root}: '{printable(name)}' is not a plain file.")
                if status.st_size > max_bytes:
                    raise BundleError(
                        f"{self.root}: '{name}' has {status.st_size} bytes, expected at most "
                        f"{max_bytes}."
                    )
                yield file, status.st_size
        except FileNotFoundError as error:
            raise BundleError(
                f"{self.root}: '{name}' is missing. Copy or export the bundle again."
            ) from error
        except OSError as error:
            raise BundleError(f"{self.root}: '{name}' cannot be read: {error.strerror}.") from error

    def check(self, listed: Collection[str]) -> None:
        """Raise for links, special files and files that the manifest does not list.

        Files of a bundle that is being replaced are ignored.

        Args:
            listed: names of the manifest's files.
        """
        allowed = {MANIFEST_NAME, *listed, *self.replaced_files()}
        folders = {name[:at] for name in allowed for at, char in enumerate(name) if char == "/"}
        committed = {f"{COMMITTED_NAME}/{name}" for name in (*allowed, REPLACED_NAME)}
        folders |= {f"{COMMITTED_NAME}/{name}" for name in folders} | {COMMITTED_NAME}
        for name, mode in walk_folder(self.root):
            told = printable(name)
            if stat.S_ISLNK(mode):
                raise _is_link(self.root, name)
            if stat.S_ISDIR(mode):
                if name not in folders:
                    raise BundleError(
                        f"{self.root}: the folder '{told}' is not listed in {MANIFEST_NAME}; "
                        "move what does not belong to the bundle out of it."
                    )
            elif not stat.S_ISREG(mode):
                raise BundleError(f"{self.root}: '{told}' is not a plain file.")
            elif name not in allowed and name not in committed:
                raise BundleError(
                    f"{self.root}: the file '{told}' is not listed in {MANIFEST_NAME}; "
                    "move what does not belong to the bundle out of it."
                )

    def replaced_files(self) -> set[str]:
        """Return the names of the files that a commit replaces, none where there is no commit."""
        try:
            with open_plain(self.committed / REPLACED_NAME) as file:
                data = file.read(MAX_MANIFEST_BYTES + 1)
        except (FileNotFoundError, NotADirectoryError):
            return set()
        except OSError as error:
            raise BundleError(
                f"{self.root}: the replaced manifest cannot be read: {error.strerror}."
            ) from error
        return listed_files(data)

    def _bases(self) -> tuple[Path, Path]:
        """Return the folders that may hold a file, in the order of the look-up."""
        return self.committed, self.root

    def _open(self, name: str) -> BinaryIO:
        # A link in place of .commit is reported by ``check``.
        if not self.committed.is_symlink():
            try:
                return open_plain(self.committed / name)
            except (FileNotFoundError, NotADirectoryError):
                pass
        if stat.S_ISLNK(os.lstat(self.root / name).st_mode):
            raise _is_link(self.root, name)
        return open_plain(self.root / name)


def _is_link(root: Path, name: str) -> BundleError:
    return BundleError(f"{root}: '{printable(name)}' is a link; a bundle holds plain files.")


def open_plain(path: Path) -> BinaryIO:
    """Open a file through no link, without waiting for one that is a pipe."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    return open(os.open(path, flags), "rb")


def walk_folder(root: Path) -> Iterator[tuple[str, int]]:
    """Yield ``(relative posix path, st_mode)`` of all in a folder, sorted, following no link.

    Staging folders are left out with their contents, and so are files moved away meanwhile.

    Raises:
        BundleError: a folder cannot be listed, or holds far more than a bundle does.
    """
    pending = [""]
    while pending:
        folder = pending.pop(0)
        for name, mode in _entries(root / folder if folder else root):
            if not folder and name.startswith(STAGING_PREFIX) and stat.S_ISDIR(mode):
                continue
            relative = f"{folder}/{name}" if folder else name
            yield relative, mode
            if stat.S_ISDIR(mode):
                pending.append(relative)


def _entries(folder: Path) -> list[tuple[str, int]]:
    """Return names and modes in a folder."""
    modes: list[tuple[str, int]] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if len(modes) == MAX_ENTRIES:
                    raise BundleError(
                        f"{folder} holds more than {MAX_ENTRIES} files, expected a bundle's alone; "
                        "move what does not belong to the bundle out of it."
                    )
                with suppress(FileNotFoundError):
                    modes.append((entry.name, entry.stat(follow_symlinks=False).st_mode))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise BundleError(f"{folder} cannot be listed: {error.strerror}.") from error
    return sorted(modes)
