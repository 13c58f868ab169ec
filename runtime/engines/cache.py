"""Engines that were built on this machine, each under a key of all that it depends on.

An engine of TensorRT is code: what is loaded from here runs. So the folder must belong to this
user and be writable by nobody else, and an entry's key and digest are verified before its bytes
are handed out. An entry is a folder that appears whole, by a rename::

    engines/<sha256 of the key>/engine, record.json
    engines/.old-<sha256 of the key>/              the one that is being replaced
    timing/<sha256 of version and device>          what a builder measured, to build quicker

A process that is killed leaves the old entry or the new one, and files that the next one removes.

Nothing here knows what an engine is.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dff_edge.errors import EngineError, SinkError
from dff_edge.files.atomic import sync_folder, write_atomically
from dff_edge.files.cache_folder import CACHE_VARIABLE, default_cache_folder
from dff_edge.files.staging import Workplace, remove_abandoned, rename_durably, write_durably
from dff_edge.names import Precision

_MAX_RECORD_BYTES = 1 << 20
_NEW, _OLD = ".new-", ".old-"

_Sha256 = Field(pattern=r"^[0-9a-f]{64}$")


class DamagedEngineError(EngineError):
    """An entry of the cache is not what its record says. It is never loaded."""


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class EngineKey(_Strict):
    """All that an engine depends on: change one field and it must be built again.

    Attributes:
        target: name of the target that it was built for, for example "cpu".
        precision: of its graph.
        subnet: name of its graph in the bundle.
        graph_sha256: of the ONNX file.
        plugin_sha256: of the plugin library that it calls; None when it calls none.
        runtime: name and version of what built it, for example "TensorRT 10.16.0".
        device: what it was built for, for example "NVIDIA Orin (compute capability 8.7)".
        flags: what the builder was told that changes results.
    """

    target: str
    precision: Precision
    subnet: str
    graph_sha256: str = _Sha256
    plugin_sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    runtime: str
    device: str
    flags: str = ""

    @property
    def digest(self) -> str:
        """sha256 of the key, the name of its entry."""
        fields = json.dumps(self.model_dump(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(fields.encode()).hexdigest()


class EngineRecord(_Strict):
    """What is known of a built engine.

    Attributes:
        key: what it depends on.
        sha256: of its bytes.
        built: when, ISO 8601 in UTC.
        build_s: how long that took, seconds.
        median_ms: of one run, measured after building.
        relative_error: of its outputs against the FP32 graph's, by norms; the worst of them.
        fidelity: share of pixels labelled as by the graphs that the engines of its precision, all
            together, were built from.
        agreement: share of pixels labelled as by the FP32 graphs.
        source: the frames that these three were measured on.
        options: what the builder was told that changes no results, such as limits.
        summary: what the builder says of layers and formats.
    """

    key: EngineKey
    sha256: str = _Sha256
    built: str
    build_s: float
    median_ms: float
    relative_error: float
    fidelity: float
    agreement: float
    source: str
    options: dict[str, Any] = {}
    summary: dict[str, Any] = {}


@dataclass(frozen=True, slots=True)
class CachedEngine:
    """An engine with its record, verified."""

    data: bytes
    record: EngineRecord


@dataclass(frozen=True, slots=True)
class Entry:
    """A folder of the cache.

    Attributes:
        path: the folder.
        bytes: of the engine.
        record: None when it cannot be read.
    """

    path: Path
    bytes: int
    record: EngineRecord | None


class EngineCache:
    """Engines on disk.

    Args:
        folder: made with mode 0700 where it is missing; None for ``default_cache_folder()``.

    Raises:
        EngineError: when the folder cannot be made, belongs to another user, or others may write
            to it.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        self.folder = (default_cache_folder() if folder is None else Path(folder)).resolve()
        self._engines = self.folder / "engines"
        self._timing = self.folder / "timing"
        for path in (self.folder, self._engines, self._timing):
            _make_private(path)

    def load(self, key: EngineKey) -> CachedEngine | None:
        """Give the engine of a key, None when there is none.

        Raises:
            DamagedEngineError: when there is one, and it is not what its record says.
        """
        path = self.path(key)
        with self._locked(fcntl.LOCK_SH):
            if not path.exists():
                path = _aside(path)  # of a process that was killed as it replaced it
            if not path.exists():
                return None
            try:
                record = _read_record(path)
                data = _read(path / "engine")
            except FileNotFoundError:
                raise _damaged(path, "it is incomplete") from None
            except OSError as error:  # a link, a file for a folder, what may not be read
                raise _damaged(path, f"it cannot be read ({error.strerror})") from error
        if record.key != key:
            raise _damaged(path, "its record is of another engine")
        if hashlib.sha256(data).hexdigest() != record.sha256:
            raise _damaged(path, f"its {len(data)} bytes are not those that were built")
        return CachedEngine(data, record)

    def store(self, data: bytes, record: EngineRecord) -> Path:
        """Keep an engine, in place of one that is there under its key.

        Of two that store at once the last wins; a reader sees either, whole.

        Raises:
            EngineError: when ``record.sha256`` is not that of ``data``, or it cannot be written.
        """
        if hashlib.sha256(data).hexdigest() != record.sha256:
            raise EngineError("the record's sha256 is not that of the engine it is stored with.")
        path = self.path(record.key)
        try:
            remove_abandoned(self._engines, _NEW)
            with Workplace(self._engines, _NEW, 0o700) as staged:
                write_durably(staged.path / "engine", data, 0o600)
                text = record.model_dump_json(indent=2)
                write_durably(staged.path / "record.json", text.encode(), 0o600)
                sync_folder(staged.path)
                with self._locked(fcntl.LOCK_EX):
                    self._recover()
                    _replace_folder(staged.path, path)
        except OSError as error:
            raise EngineError(f"{path} cannot be written: {error.strerror}.") from error
        return path

    def similar(self, key: EngineKey) -> list[EngineRecord]:
        """Engines of the same graph for the same target, built for something else, newest first.

        They are of no use for ``key``, and say why it has to be built.
        """
        found = [entry.record for entry in self.entries() if entry.record is not None]
        return [
            record
            for record in sorted(found, key=lambda record: record.built, reverse=True)
            if record.key != key
            and (record.key.target, record.key.subnet, record.key.graph_sha256)
            == (key.target, key.subnet, key.graph_sha256)
        ]

    def entries(self) -> list[Entry]:
        """All that there is, by target, precision and subnet; engines are not verified."""
        entries = []
        for path in self._engines.iterdir():
            if path.name.startswith("."):
                continue
            try:
                entries.append(Entry(path, (path / "engine").stat().st_size, _read_record(path)))
            except (DamagedEngineError, OSError):
                entries.append(Entry(path, 0, None))
        return sorted(entries, key=_order)

    def prune(self, is_kept: Callable[[EngineKey], bool]) -> list[Entry]:
        """Remove entries whose key is not kept, damaged ones, and remains of interrupted builds.

        Returns:
            What was removed.

        Raises:
            EngineError: when one cannot be removed.
        """
        # Looked at under the lock: what was damaged a moment ago may have been built again.
        with self._locked(fcntl.LOCK_EX):
            self._recover()
            removed = [e for e in self.entries() if e.record is None or not is_kept(e.record.key)]
            for entry in removed:
                _remove(entry.path)
        remove_abandoned(self._engines, _NEW)
        return removed

    def timing(self, runtime: str, device: str) -> bytes:
        """What a builder of that version measured on that device; nothing at first."""
        try:
            return _read(self._timing / _timing_name(runtime, device))
        except FileNotFoundError:
            return b""

    def store_timing(self, runtime: str, device: str, data: bytes) -> None:
        """Keep what a builder measured. Of two that store at once the last one wins."""
        path = self._timing / _timing_name(runtime, device)
        with self._locked(fcntl.LOCK_EX):
            try:
                write_atomically(path, data, mode=0o600)
            except SinkError as error:
                raise EngineError(str(error)) from error

    @contextmanager
    def _locked(self, kind: int) -> Iterator[None]:
        """Against other processes and threads, while an entry is read or put in its place."""
        # Readers need no more than to read: a device's file system may be read-only. NFS grants an
        # exclusive lock only on what is open for writing.
        mode = os.O_RDWR if kind == fcntl.LOCK_EX else os.O_RDONLY
        path = self.folder / "lock"
        with ExitStack() as stack:
            try:
                flags = mode | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
                file = stack.enter_context(open(os.open(path, flags, 0o600), "rb"))
                fcntl.flock(file, kind)  # let go by closing
            except OSError as error:
                raise EngineError(
                    f"the engine cache's {path} cannot be locked: {error.strerror}. Name another "
                    f"folder in {CACHE_VARIABLE}, or mend this one."
                ) from error
            yield

    def _recover(self) -> None:
        """Put back entries whose replacement was cut off, under the exclusive lock."""
        for aside in self._engines.glob(f"{_OLD}*"):
            path = self._engines / aside.name.removeprefix(_OLD)
            if path.exists():
                shutil.rmtree(aside, ignore_errors=True)
            else:
                os.rename(aside, path)

    def path(self, key: EngineKey) -> Path:
        """Where the entry of a key is, or would be."""
        return self._engines / key.digest


def difference(key: EngineKey, other: EngineKey) -> str:
    """Say where two keys of one graph differ: "built with A for B; here is C".

    Args:
        key: what is wanted.
        other: what is there.
    """
    texts = []
    if key.runtime != other.runtime:
        texts.append(f"built with {other.runtime}; here is {key.runtime}")
    if key.device != other.device:
        texts.append(f"built for {other.device}; here is {key.device}")
    if key.plugin_sha256 != other.plugin_sha256:
        texts.append("built with another build of the plugin")
    if key.flags != other.flags:
        texts.append(f"built with '{other.flags}', now '{key.flags}'")
    return ", ".join(texts)


def _timing_name(runtime: str, device: str) -> str:
    return hashlib.sha256(f"{runtime}\n{device}".encode()).hexdigest()


def _order(entry: Entry) -> tuple[str, ...]:
    if entry.record is None:
        return ("", entry.path.name)
    key = entry.record.key
    return (key.target, key.precision, key.subnet, key.runtime, entry.path.name)


def _make_private(path: Path) -> None:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = path.lstat()
    except OSError as error:
        raise EngineError(f"the engine cache {path} cannot be made: {error.strerror}.") from error
    advice = f"Engines are code. Name a folder of your own in {CACHE_VARIABLE}, or mend this one"
    if not stat.S_ISDIR(status.st_mode):
        raise EngineError(f"the engine cache {path} is a link or a file, expected a folder.")
    if status.st_uid != os.geteuid():
        raise EngineError(
            f"the engine cache {path} belongs to user {status.st_uid}, expected {os.geteuid()}, "
            f"who runs this. {advice}."
        )
    if status.st_mode & 0o022:
        raise EngineError(
            f"the engine cache {path} has mode {stat.S_IMODE(status.st_mode):o}: others may write "
            f"to it. {advice}: chmod 700 {path}"
        )


def _read_record(path: Path) -> EngineRecord:
    data = _read(path / "record.json", _MAX_RECORD_BYTES)
    try:
        return EngineRecord.model_validate_json(data)
    except ValidationError as error:
        raise _damaged(path, f"its record does not read ({error.error_count()} errors)") from error


def _damaged(path: Path, reason: str) -> DamagedEngineError:
    return DamagedEngineError(
        f"the cached engine {path} is damaged: {reason}. Build it again: dff-edge deploy."
    )


def _read(path: Path, max_bytes: int | None = None) -> bytes:
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
        return file.read(-1 if max_bytes is None else max_bytes)


def _remove(path: Path) -> None:
    """Remove a folder, or what lies in the place of one."""
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise EngineError(f"{path} cannot be removed: {error.strerror}.") from error


def _aside(path: Path) -> Path:
    """Where an entry is while another takes its place."""
    return path.with_name(f"{_OLD}{path.name}")


def _replace_folder(staged: Path, path: Path) -> None:
    """Rename to ``path``, where a folder may be in the way. Nobody else may be at it."""
    if path.exists():
        os.rename(path, _aside(path))
    rename_durably(staged, path)
    _remove(_aside(path))
