"""Ordinary files, bounded in size, and never opened by native code.

A pipe or a device in the place of a file would block or feed its reader for ever, and native
readers that take a path end the process on a name that is no UTF-8. So files from elsewhere are
read here.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from dff_edge.errors import ConfigError, DffEdgeError


@contextmanager
def open_regular(
    path: Path,
    *,
    max_bytes: int,
    what: str | None = None,
    error: type[DffEdgeError] = ConfigError,
) -> Iterator[BinaryIO]:
    """Open a regular file for reading, of at most ``max_bytes``.

    A pipe or a device in its place is refused without waiting for it.

    Args:
        path: links are followed.
        max_bytes: its largest size.
        what: what is expected, for messages: "a label PNG".
        error: what is raised.
    """
    expected = "" if what is None else f"; expected {what}"
    try:
        # Without O_NONBLOCK a pipe waits here until it has a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | getattr(os, "O_CLOEXEC", 0))
    except (OSError, ValueError) as problem:  # ValueError: a NUL byte in the name
        reason = problem.strerror if isinstance(problem, OSError) else problem
        raise error(f"{path} cannot be read: {reason}{expected}.") from problem
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise error(
                f"{path} is {_kind(status.st_mode)}, expected {what or 'an ordinary file'}."
            )
        if status.st_size > max_bytes:
            raise error(
                f"{path} has {status.st_size:,} bytes, expected {max_bytes:,} at most for "
                f"{what or 'a file of its kind'}."
            )
    except BaseException:
        os.close(descriptor)
        raise
    with open(descriptor, "rb") as file:
        try:
            yield file
        except OSError as problem:
            if problem.filename is not None:
                raise  # another file's
            told = problem.strerror or problem
            raise error(f"{path} cannot be read: {told}{expected}.") from problem


def read_regular(
    path: Path,
    *,
    max_bytes: int,
    what: str | None = None,
    error: type[DffEdgeError] = ConfigError,
) -> bytes:
    """Read all of a file as ``open_regular`` opens it; an empty one is refused too."""
    with open_regular(path, max_bytes=max_bytes, what=what, error=error) as file:
        content = file.read(max_bytes + 1)
    if not content:
        raise error(f"{path} is empty (0 bytes), expected {what or 'content'}.")
    if len(content) > max_bytes:  # it grew, or its size is unknown, as in /proc
        raise error(f"{path} has more than {max_bytes:,} bytes, expected no more.")
    return content


def read_text(
    path: Path,
    *,
    max_bytes: int,
    what: str | None = None,
    error: type[DffEdgeError] = ConfigError,
) -> str:
    """Read a UTF-8 file as ``read_regular`` does, without its byte order mark."""
    data = read_regular(path, max_bytes=max_bytes, what=what, error=error)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise error(
            f"{path} is no UTF-8 text ({problem.reason} at byte {problem.start}), expected "
            f"{what or 'such text'}."
        ) from problem


def _kind(mode: int) -> str:
    kinds = {
        stat.S_ISDIR: "a folder",
        stat.S_ISFIFO: "a pipe",
        stat.S_ISCHR: "a device",
        stat.S_ISBLK: "a device",
        stat.S_ISSOCK: "a socket",
    }
    return next((name for test, name in kinds.items() if test(mode)), "no file")
