"""Checks that a place can be written to, before the work whose result goes there."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from dff_edge.errors import DiskError


def check_room(folder: str | Path, nbytes: int, what: str) -> None:
    """Raise for a folder that cannot hold the files to be written.

    Args:
        folder: the target; it may be missing, and is not created.
        nbytes: approximate size.
        what: the files, the start of the message.

    Raises:
        DiskError: the file system is read-only, this user may not write there, or there is too
            little room.
    """
    place = Path(folder).absolute()
    while not place.is_dir() and place != place.parent:
        place = place.parent
    try:
        with tempfile.TemporaryFile(dir=place):  # permissions are not enough: it may be read-only
            free = shutil.disk_usage(place).free
    except OSError as error:
        raise DiskError(
            f"{what} cannot be written to {folder}: {error.strerror}. Choose another folder, or "
            "have this one made writable."
        ) from error
    if free < nbytes:
        raise DiskError(
            f"{what} will take about {_megabytes(nbytes)}, and there is room for "
            f"{_megabytes(free)} at {folder}. Make room, or choose another folder."
        )


def check_temporary_room(nbytes: int, what: str) -> None:
    """Raise for a temporary folder that cannot hold the files to be written.

    Args:
        nbytes: approximate size.
        what: the files, the start of the message.

    Raises:
        DiskError: as ``check_room``, or there is no such folder.
    """
    try:
        folder = tempfile.gettempdir()
    except FileNotFoundError as error:
        raise DiskError(
            f"{what} cannot be written: none of the folders for temporary files can be used. Name "
            "one in TMPDIR."
        ) from error
    check_room(folder, nbytes, what)


def _megabytes(nbytes: int) -> str:
    return f"{nbytes / 1e6:.1f} MB"
