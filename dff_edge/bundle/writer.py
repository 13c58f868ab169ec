"""Write bundles: a new one (export), or more precisions into one (calibrate).

Files are prepared in ``.staging-<random>`` inside the bundle's folder (the same file system, also
when the folder is a mount). A commit replaces the bundle atomically (``commit``):
whenever a process is killed, the old bundle or the new one is there.
"""

from __future__ import annotations

import hashlib
import logging
import os
import stat
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from dff_edge.bundle.commit import finish, publish
from dff_edge.bundle.folder import BundleFolder, walk_folder
from dff_edge.bundle.graphs.check import check_graph, read_graph_bytes
from dff_edge.bundle.graphs.onnx_check import CheckedGraph
from dff_edge.bundle.manifest import GRAPHS_OF, Manifest, listed_files
from dff_edge.bundle.paths import (
    COMMITTED_NAME,
    MANIFEST_NAME,
    STAGING_PREFIX,
    graph_path,
)
from dff_edge.bundle.reader import Bundle, roles_of
from dff_edge.bundle.records import FileRecord
from dff_edge.errors import BundleError, SinkError
from dff_edge.files.atomic import check_folder, check_room
from dff_edge.files.staging import Workplace, locked, remove_abandoned, write_durably
from dff_edge.lifetime import Closing
from dff_edge.names import (
    FLAVOURS,
    PRECISIONS,
    Flavour,
    GraphName,
    Precision,
)
from dff_edge.printable import printable

_WAIT_S = 30.0  # for a commit of another process, which takes milliseconds
_LOG = logging.getLogger("dff_edge.runtime")
_OWN_FIELDS = ("schema_version", "graphs", "files")
_SUBJECTS = {  # fields that say what was measured, by the kind of record
    "accuracy": ("precision", "flavour", "data", "protocol", "key_interval", "distance"),
    "parity": ("precision", "flavour", "subnet", "output", "inputs"),
}


class BundleWriter(Closing):
    """Collects graphs and manifest fields, and writes them as a bundle atomically.

    Make one with ``create`` or ``extend``, use it as a context manager, and end with
    ``commit``; leaving without it changes nothing.

    Example:
        >>> with BundleWriter.create(path) as writer:  # doctest: +SKIP
        ...     writer.add_graph("fp32", "feature", feature_bytes)
        ...     writer.update(classes=classes, frame_size=(512, 1024), ...)
        ...     bundle = writer.commit()
    """

    def __init__(self, path: Path, base: Bundle | None, replace: bool) -> None:
        self.path = path
        self._base = base
        self._replace = replace
        self._fields: dict[str, Any] = {}
        self._graphs: dict[tuple[Flavour, Precision], dict[GraphName, str]] = {}
        self._files: dict[str, FileRecord] = {}
        self._checked: dict[tuple[Flavour, Precision, GraphName], CheckedGraph] = {}
        self._staging: Workplace | None = None
        self._is_closed = False
        self._made_folder = False

    @classmethod
    def create(cls, path: str | Path, *, replace: bool = False) -> BundleWriter:
        """Start a new bundle.

        Args:
            path: the folder; it may be absent or empty.
            replace: whether an existing bundle may be replaced. Its files are deleted on
                commit. A folder that holds anything else is refused in any case.

        Raises:
            BundleError: the folder holds a bundle and ``replace`` is false, or other files; or it
                cannot be written to, which is checked now and not when the work is done.
        """
        root = Path(path).absolute()
        if os.path.lexists(root) and not root.is_dir():
            raise BundleError(f"{path} is a file, expected a folder to write a bundle into.")
        _check_writable(root)
        if root.is_dir():
            _check_replaceable(root, replace)
        return cls(root, None, replace)

    @classmethod
    def extend(cls, bundle: str | Path | Bundle) -> BundleWriter:
        """Start adding to a bundle; graphs not added again are kept.

        Args:
            bundle: its folder, which is verified, or an open bundle.

        Raises:
            BundleError: as ``Bundle.open``, or it cannot be written to, or was replaced meanwhile.
        """
        base = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
        _check_unchanged(base)
        _check_writable(base.path)
        return cls(base.path, base, replace=True)

    def add_graph(
        self, precision: Precision, graph: GraphName, data: bytes, flavour: Flavour = "ort"
    ) -> None:
        """Add one graph, or replace it. Add all graphs of a precision before ``commit``.

        In ``extend``, adding to a precision of a flavour replaces all its graphs and drops the
        calibration and measurements of the old ones. A graph for TensorRT that equals one for ONNX
        Runtime of its precision, added before, is not stored twice.

        Raises:
            BundleError: the graph is not fit for a bundle (``read_graph``), or cannot be written.
        """
        self._check_open()
        if flavour not in FLAVOURS or precision not in PRECISIONS:
            raise BundleError(
                f"{flavour!r} {precision!r} is not in a bundle, expected one of {FLAVOURS} and "
                f"one of {PRECISIONS}."
            )
        if graph not in GRAPHS_OF[flavour]:
            raise BundleError(
                f"{graph!r} is not a graph of a bundle in the flavour {flavour!r}, expected one of "
                f"{GRAPHS_OF[flavour]}."
            )
        name = graph_path(precision, graph, flavour)
        checked = read_graph_bytes(data, name, [(flavour, graph)])
        self._checked[flavour, precision, graph] = checked
        record = FileRecord(sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))
        paths = self._graphs.setdefault((flavour, precision), {})
        if flavour == "trt":
            for twin in self._graphs.get(("ort", precision), {}).values():
                if self._files[twin] == record:
                    paths[graph] = twin
                    return
        try:
            target = self._stage() / PurePosixPath(name)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)  # added before
            write_durably(target, data)
        except OSError as error:
            raise BundleError(f"{self.path}: '{name}' cannot be written: {error}.") from error
        paths[graph] = name
        self._files[name] = record

    def update(self, **fields: Any) -> None:
        """Set fields of the manifest, as models or plain values.

        ``calibration`` merges by flavour and precision; ``accuracy`` and ``parity`` are
        appended, a new record replacing an old one of the same subject. Others replace.

        Raises:
            BundleError: a field that the manifest does not have, or that the writer fills in.
        """
        self._check_open()
        for name, value in fields.items():
            if name not in Manifest.model_fields or name in _OWN_FIELDS:
                settable = sorted(Manifest.model_fields.keys() - set(_OWN_FIELDS))
                raise BundleError(f"{name!r} cannot be set, expected one of {settable}.")
            value = _plain(value)
            if name == "calibration":
                value = _merge_flavours(self._fields.get(name, {}), value)
            elif name in ("accuracy", "parity"):
                value = [*self._fields.get(name, []), *value]
            self._fields[name] = value

    def commit(self) -> Bundle:
        """Check everything, put it in place atomically, and return it as a bundle.

        Each graph is checked once, when it is added or with the bundle that is extended, and again
        only where the manifest has changed for it.

        Raises:
            BundleError: the manifest would not be valid, a graph does not fit it, the folder
                changed meanwhile, or writing failed.
        """
        self._check_open()
        manifest = self._merged()
        for (flavour, precision), paths in self._graphs.items():
            for graph, name in paths.items():
                checked = self._checked[flavour, precision, graph]
                check_graph(manifest, precision, graph, name, checked, flavour)
        self._check_kept(manifest)
        try:
            staging = self._stage()
            with locked(self.path, _WAIT_S):
                finish(self.path)  # left by a killed process
                publish(self.path, staging, manifest.dump(), self._replaced())
                try:
                    finish(self.path)
                except OSError as error:
                    _LOG.warning(
                        "%s is written, but not all of its files are in their places (%s). It can "
                        "be used as it is; the next writer moves the rest.",
                        self.path,
                        error,
                    )
        except OSError as error:
            raise BundleError(f"{self.path} cannot be written: {error}.") from error
        self.close()
        return self._committed(manifest)

    def close(self) -> None:
        """Drop everything that was not committed. Closing twice is allowed."""
        self._is_closed = True
        if self._staging is not None:
            self._staging.close()
            self._staging = None
        if self._made_folder and self.path.is_dir() and not any(self.path.iterdir()):
            self.path.rmdir()
        self._made_folder = False

    def _check_open(self) -> None:
        if self._is_closed:
            raise BundleError("This bundle writer is closed; start a new one.")

    def _stage(self) -> Path:
        if self._staging is None:
            self._made_folder = not self.path.exists()
            self.path.mkdir(parents=True, exist_ok=True)
            remove_abandoned(self.path, STAGING_PREFIX)
            self._staging = Workplace(self.path, STAGING_PREFIX)
        return self._staging.path

    def _merged(self) -> Manifest:
        """Return the manifest of the base with the changes in it."""
        fields: dict[str, Any] = {"graphs": {}}
        if self._base is not None:
            fields = self._base.manifest.model_dump(mode="json", exclude_none=True)
            for flavour, precision in self._graphs:
                _drop_graphs(fields, flavour, precision)
        for (flavour, precision), paths in self._graphs.items():
            fields["graphs"].setdefault(flavour, {})[precision] = dict(paths)
        for name, value in self._fields.items():
            if name == "calibration":
                value = _merge_flavours(fields.get(name, {}), value)
            elif name in ("accuracy", "parity"):
                value = _merge_records([*fields.get(name, []), *value], _SUBJECTS[name])
            fields[name] = value
        fields["files"] = {**fields.get("files", {}), **self._files}
        return Manifest.build(**_plain(fields))

    def _check_kept(self, manifest: Manifest) -> None:
        """Raise for graphs of the base that do not fit the changed manifest."""
        base = self._base
        if base is None:
            return
        has_changed = _facts(manifest) != _facts(base.manifest)
        for name, roles in roles_of(manifest).items():
            kept = [
                (flavour, precision, graph)
                for flavour, precision, graph in roles
                if (flavour, precision) not in self._graphs
                and (
                    has_changed
                    or manifest.map_levels(precision, flavour)
                    != base.manifest.map_levels(precision, flavour)
                )
            ]
            if not kept:
                continue
            flavour, precision, graph = kept[0]
            data = base.graph_bytes(precision, graph, flavour)
            checked = read_graph_bytes(data, name, {(own, graph) for own, _, graph in kept})
            for flavour, precision, graph in kept:
                check_graph(manifest, precision, graph, name, checked, flavour)

    def _committed(self, manifest: Manifest) -> Bundle:
        summaries = {} if self._base is None else dict(self._base.summaries)
        for (flavour, precision), paths in self._graphs.items():
            for graph, name in paths.items():
                summaries[name] = self._checked[flavour, precision, graph].summary
        return Bundle(
            self.path,
            manifest,
            hashlib.sha256(manifest.dump()).hexdigest(),
            {name: summaries[name] for name in manifest.files},
        )

    def _replaced(self) -> bytes | None:
        """Raise if the bundle was changed since this writer started; return the old manifest."""
        if self._base is None:
            _check_replaceable(self.path, self._replace)
            has_bundle = (self.path / MANIFEST_NAME).exists()
            return BundleFolder(self.path).manifest_bytes() if has_bundle else None
        return _check_unchanged(self._base)


def _check_unchanged(bundle: Bundle) -> bytes:
    """Raise if a bundle was replaced since it was opened; return its manifest."""
    data = BundleFolder(bundle.path).manifest_bytes()
    if hashlib.sha256(data).hexdigest() != bundle.digest:
        raise BundleError(
            f"{bundle.path} was changed by another process since it was opened; run the command "
            "again."
        )
    return data


def _facts(manifest: Manifest) -> dict[str, Any]:
    """Return the manifest's fields that every graph is compared with."""
    others = {"graphs", "files", "calibration", "score_threshold", "accuracy", "parity"}
    return manifest.model_dump(exclude=others | {"provenance", "staleness"})


def _check_writable(root: Path) -> None:
    there = next(folder for folder in (root, *root.parents) if folder.is_dir())
    try:
        check_folder(there, root)
        check_room(there, root)
    except SinkError as error:
        raise BundleError(str(error)) from error


def _check_replaceable(root: Path, replace: bool) -> None:
    """Raise for a folder that holds more than a bundle."""
    found = dict(walk_folder(root))
    if not found:
        return
    folder = BundleFolder(root)
    committed = f"{COMMITTED_NAME}/"
    if MANIFEST_NAME not in found and f"{committed}{MANIFEST_NAME}" not in found:
        raise BundleError(
            f"{root} holds files and no bundle (first: '{printable(next(iter(found)))}'); "
            "name an empty or new folder."
        )
    if not replace:
        raise BundleError(
            f"{root} holds a bundle already; allow it to be replaced, or name another folder."
        )
    own = {MANIFEST_NAME, *listed_files(folder.manifest_bytes()), *folder.replaced_files()}
    for name, mode in found.items():
        is_own = name.startswith(committed) or name in own
        if not stat.S_ISDIR(mode) and not (is_own and stat.S_ISREG(mode)):
            raise BundleError(
                f"{root} holds '{printable(name)}', which is not part of the bundle in it; "
                "move it away, or name another folder."
            )


def _drop_graphs(fields: dict[str, Any], flavour: Flavour, precision: Precision) -> None:
    """Drop the graphs of a precision, with their calibration and measurements."""
    dropped = set(fields["graphs"].get(flavour, {}).pop(precision, {}).values())
    others = {
        path
        for by_precision in fields["graphs"].values()
        for paths in by_precision.values()
        for path in paths.values()
    }
    for path in dropped - others:
        fields["files"].pop(path, None)
    fields["calibration"].get(flavour, {}).pop(precision, None)
    for kind in ("accuracy", "parity"):
        fields[kind] = [
            r for r in fields[kind] if (r["flavour"], r["precision"]) != (flavour, precision)
        ]
    if flavour == "ort" and dropped & others:  # files that TensorRT shared with them are gone
        _drop_graphs(fields, "trt", precision)


def _merge_flavours(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Merge records by flavour and precision into older ones."""
    return {own: {**old.get(own, {}), **new.get(own, {})} for own in {**old, **new}}


def _merge_records(records: list[dict[str, Any]], subject: tuple[str, ...]) -> list[dict[str, Any]]:
    """Keep the last record of each subject: of all fields that are not measured numbers."""
    merged = {
        tuple(str(record.get(field)) for field in subject): record
        for record in ({"flavour": "ort", **record} for record in records)
    }
    return list(merged.values())


def _plain(value: Any) -> Any:
    """Convert models, at any depth, to plain values."""
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json", exclude_none=True)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
