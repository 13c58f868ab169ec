"""Engines built on this machine, each stored under a key of everything that it depends on.

An engine of TensorRT is code: what is loaded from the cache is executed. So the folder must belong
to this user and be writable by no other, and an entry's key and digest are verified before its
bytes are returned. An entry is a folder that is put in place atomically, by a rename::

    engines/<sha256 of the key>/engine, record.json
    engines/.old-<sha256 of the key>/              the one that is being replaced
    timing/<sha256 of version and device>          what a builder measured, to build faster

A process that is killed leaves the old entry or the new one, and files that the next one removes.

This module does not depend on the kind of engine.
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
    """An entry of the cache does not match its record. It is never loaded."""


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class EngineKey(_Strict):
    """All that an engine depends on: if one field changes, it must be built again.

    Attributes:
        target: name of the target that it was built for, for example "cpu".
        precision: of its graph.
        subnet: name of its graph in the bundle.
        graph_sha256: of the ONNX file.
        plugin_sha256: of the plugin library that it calls; None when it calls none.
        runtime: name and version of the builder, for example "TensorRT 10.16.0".
        device: the device it was built for, for example "NVIDIA Orin (compute capability 8.7)".
        flags: options of the builder that change results.
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
        """Return the sha256 of the key, the name of its entry."""
        fields = json.dumps(self.model_dump(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(fields.encode()).hexdigest()


class EngineRecord(_Strict):
    """Record of a built engine.

    Attributes:
        key: what it depends on.
        sha256: of its bytes.
        built: time of the build, ISO 8601 in UTC.
        build_s: duration of the build, seconds.
        median_ms: of one run, measured after building.
        relative_error: of its outputs against the FP32 graph's, by norms; the largest of them.
        fidelity: share of pixels with equal labels from all engines of its precision together and
            from the graphs that they were built from.
        agreement: share of pixels with equal labels from these engines and from the FP32 graphs.
        source: the frames that these three were measured on.
        options: options of the builder that do not change results, such as limits.
        summary: the builder's report on layers and formats.
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
        folder: created with mode 0700 where it is missing; None for ``default_cache_folder()``.

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
        """Return the engine of a key, None when there is none.

        Raises:
            DamagedEngineError: when there is one that does not match its record.
        """
        path = self.path(key)
        with self._locked(fcntl.LOCK_SH):
            if not path.exists():
                path = _aside(path)  # left by a process that was killed while replacing it
            if not path.exists():
                return None
            try:
                record = _read_record(path)
                data = _read(path / "engine")
            except FileNotFoundError:
                raise _damaged(path, "it is incomplete") from None
            except OSError as error:  # a link, a file in place of a folder, or no permission
                raise _damaged(path, f"it cannot be read ({error.strerror})") from error
        if record.key != key:
            raise _damaged(path, "its record is of another engine")
        if hashlib.sha256(data).hexdigest() != record.sha256:
            raise _damaged(path, f"its {len(data)} bytes are not those that were built")
        return CachedEngine(data, record)

    def store(self, data: bytes, record: EngineRecord) -> Path:
        """Store an engine, replacing one that is there under its key.

        Of two that store at once the last wins; a reader sees either, complete.

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
        """Return engines of the same graph for the same target but another key, newest first.

        They cannot be used for ``key``; their keys show why it has to be built.
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
        """Return all entries, by target, precision and subnet; engines are not verified."""
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
            The removed entries.

        Raises:
            EngineError: when one cannot be removed.
        """
        # Checked under the lock: an entry that was damaged before may have been built again.
        with self._locked(fcntl.LOCK_EX):
            self._recover()
            removed = [e for e in self.entries() if e.record is None or not is_kept(e.record.key)]
            for entry in removed:
                _remove(entry.path)
        remove_abandoned(self._engines, _NEW)
        return removed

    def timing(self, runtime: str, device: str) -> bytes:
        """Return what a builder of that version measured on that device; empty at first."""
        try:
            return _read(self._timing / _timing_name(runtime, device))
        except FileNotFoundError:
            return b""

    def store_timing(self, runtime: str, device: str, data: bytes) -> None:
        """Store what a builder measured. Of two that store at once the last one wins."""
        path = self._timing / _timing_name(runtime, device)
        with self._locked(fcntl.LOCK_EX):
            try:
                write_atomically(path, data, mode=0o600)
            except SinkError as error:
                raise EngineError(str(error)) from error

    @contextmanager
    def _locked(self, kind: int) -> Iterator[None]:
        """Lock against other processes and threads, while an entry is read or put in its place."""
        # Readers must not need write access: a device's file system may be read-only. NFS grants an
        # exclusive lock only on a file that is open for writing.
        mode = os.O_RDWR if kind == fcntl.LOCK_EX else os.O_RDONLY
        path = self.folder / "lock"
        with ExitStack() as stack:
            try:
                flags = mode | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
                file = stack.enter_context(open(os.open(path, flags, 0o600), "rb"))
                fcntl.flock(file, kind)  # released by closing
            except OSError as error:
                raise EngineError(
                    f"the engine cache's {path} cannot be locked: {error.strerror}. Name another "
                    f"folder in {CACHE_VARIABLE}, or repair this one."
                ) from error
            yield

    def _recover(self) -> None:
        """Restore entries whose replacement was interrupted, under the exclusive lock."""
        for aside in self._engines.glob(f"{_OLD}*"):
            path = self._engines / aside.name.removeprefix(_OLD)
            if path.exists():
                shutil.rmtree(aside, ignore_errors=True)
            else:
                os.rename(aside, path)

    def path(self, key: EngineKey) -> Path:
        """Return the path of a key's entry, which need not exist."""
        return self._engines / key.digest


def difference(key: EngineKey, other: EngineKey) -> str:
    """Describe how two keys of one graph differ: "built with A for B; here is C".

    Args:
        key: the key that is looked for.
        other: the key of an entry.
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
    advice = f"Engines are code. Name a folder of your own in {CACHE_VARIABLE}, or repair this one"
    if not stat.S_ISDIR(status.st_mode):
        raise EngineError(f"the engine cache {path} is a link or a file, expected a folder.")
    if status.st_uid != os.geteuid():
        raise EngineError(
            f"the engine cache {path} belongs to user {status.st_uid}, expected {os.geteuid()}, "
            f"the user of this process. {advice}."
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
    """Remove a folder, or a file in its place."""
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise EngineError(f"{path} cannot be removed: {error.strerror}.") from error


def _aside(path: Path) -> Path:
    """Return the path that an entry is moved to while it is replaced."""
    return path.with_name(f"{_OLD}{path.name}")


def _replace_folder(staged: Path, path: Path) -> None:
    """Rename to ``path``, replacing a folder there. The caller holds the exclusive lock."""
    if path.exists():
        os.rename(path, _aside(path))
    rename_durably(staged, path)
    _remove(_aside(path))
