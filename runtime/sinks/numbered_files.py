"""A file for each frame in a folder that belongs to one run."""

from __future__ import annotations

import re
from pathlib import Path

from dff_edge.errors import SinkError
from dff_edge.files.atomic import check_folder, check_room, write_atomically
from dff_edge.files.locks import FolderLock
from dff_edge.runtime.sinks.output_file import (
    RECORDING_BYTES,
    check_not_source,
    make_folder,
    remove_if_empty,
)

_NUMBER = re.compile(r"%(?:0([1-9]))?d")
_SHOWN = 3


class NumberedFiles:
    """Files named by frame index, ``FOLDER/000012.png``; each is written atomically.

    Construction claims the folder, by a lock that the kernel releases when the process ends. The
    folder is created if only the folder itself is missing.

    Args:
        pattern: of the file names; contains ``%d`` or ``%06d``, and ``%%`` for a percent sign.
        uri: for messages.
        source: the source's URI, so that its folder is not written into.
        replace: whether files of another run are removed, when the first file is written;
            otherwise they are refused.

    Raises:
        SinkError: another run is writing there or has left its files, the folder cannot be created
            or written to, the disk is full, or it is the source's.
    """

    def __init__(
        self, pattern: Path, uri: str, source: str | Path | None = None, *, replace: bool = False
    ) -> None:
        self.folder = pattern.parent
        self._name = pattern.name
        self._uri = uri
        self._is_old: list[Path] = []
        self._lock: FolderLock | None = None
        self._has_written = False
        check_not_source(self.folder, uri, source)
        self._has_made_folder = make_folder(self.folder, uri)
        try:
            check_folder(self.folder, uri)
            check_room(self.folder, uri, RECORDING_BYTES)
            self._lock = FolderLock(self.folder, uri)
            self._is_old = self._find_old()
            if self._is_old and not replace:
                raise self._refusal()
        except BaseException:
            self.close()
            raise

    def write(self, index: int, data: bytes) -> None:
        """Write the file of a frame.

        Raises:
            SinkError: it cannot be written; no part of it is left.
        """
        if not self._has_written:
            for path in self._is_old:
                path.unlink(missing_ok=True)
            self._has_written = True
        name = _NUMBER.sub(lambda found: f"{index:0{found[1] or 1}d}", self._name)
        # No flush for each: thousands of files would wait for the disk one by one.
        write_atomically(self.folder / name.replace("%%", "%"), data, durable=False)

    def close(self) -> None:
        """Release the folder; if it was created here and is empty, remove it."""
        if self._lock is not None:
            self._lock.close()
        if self._has_made_folder:
            remove_if_empty(self.folder)
        self._has_made_folder = False

    def _find_old(self) -> list[Path]:
        before, digits, after = _NUMBER.split(self._name)
        before, after = (re.escape(part.replace("%%", "%")) for part in (before, after))
        written = re.compile(rf"{before}\d{{{digits or 1},}}{after}")
        return sorted(path for path in self.folder.iterdir() if written.fullmatch(path.name))

    def _refusal(self) -> SinkError:
        shown = ", ".join(path.name for path in self._is_old[:_SHOWN])
        if len(self._is_old) > _SHOWN:
            shown += f" and {len(self._is_old) - _SHOWN} more"
        return SinkError(
            f"'{self._uri}': '{self.folder}' holds files of another run ({shown}), and two runs "
            f"would be mixed. Name another folder, or remove them: '{self._uri}?replace=yes'"
        )
