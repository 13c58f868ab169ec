"""Bytes of data set files: bounded, of regular files only, and never opened by native code.

Native readers take a path as text that they encode themselves, and end the process on a name that
is no UTF-8; a pipe or a device would block or feed them for ever. So files are read here.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from dff_edge.errors import SourceError


def read_file(path: Path, *, most: int, what: str) -> bytes:
    """Return the bytes of a regular file.

    Args:
        path: of the file; links are followed.
        most: bytes that it may have.
        what: the file is, for messages: "a label PNG".

    Raises:
        SourceError: it is missing, no regular file, empty, too large, or cannot be read.
    """
    try:
        data = _read_regular(path, most + 1)
    except OSError as error:
        raise SourceError(f"'{path}' cannot be read: {error.strerror}; expected {what}.") from error
    except ValueError as error:  # a name with a NUL
        raise SourceError(f"{str(path)!r} cannot be read: {error}; expected {what}.") from error
    if data is None:
        raise SourceError(f"'{path}' is no regular file, expected {what}.")
    if not data:
        raise SourceError(f"'{path}' is empty (0 bytes), expected {what}.")
    if len(data) > most:
        raise SourceError(f"'{path}' has more than {most} bytes, expected {what}.")
    return data


def read_text(path: Path, *, most: int, what: str) -> str:
    """Return the text of a UTF-8 file, without a byte order mark.

    Raises:
        SourceError: as ``read_file``, or it is no UTF-8.
    """
    try:
        return read_file(path, most=most, what=what).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SourceError(
            f"'{path}' is no UTF-8 text ({error.reason} at byte {error.start}), expected {what}."
        ) from error


def _read_regular(path: Path, most: int) -> bytes | None:
    """The first bytes of a regular file, None of what is none."""
    # Without O_NONBLOCK, opening a pipe waits for its writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        with open(descriptor, "rb", closefd=False) as file:
            return file.read(most)
    finally:
        os.close(descriptor)
