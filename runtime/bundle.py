"""The bundle: a folder that is everything a device needs, opened with distrust.

``Bundle.open`` checks the manifest, then the folder against it, then the digest
of every file, then every graph, before any native code parses one. Afterwards
``graph_bytes`` reads a file once, checks the digest of exactly the bytes that it
returns, and so gives what was checked even when the folder changed meanwhile.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dff_edge.runtime.bundle_paths import MANIFEST_NAME, STAGING_PREFIX, path_problem
from dff_edge.runtime.contract import FLAVOURS, Flavour, GraphName, Precision
from dff_edge.runtime.errors import BundleError
from dff_edge.runtime.manifest import MAX_MANIFEST_BYTES, Manifest
from dff_edge.runtime.manifest_records import FileRecord
from dff_edge.runtime.onnx_check import LOCAL_DOMAIN, GraphSummary, check_onnx
from dff_edge.runtime.tensorrt_check import WARP_PLUGIN, check_for_tensorrt


@dataclass(frozen=True, slots=True)
class Bundle:
    """A verified bundle. Make one with ``Bundle.open``.

    Attributes:
        path: the folder, absolute.
        manifest: its manifest.
        digest: sha256 of manifest.json, and by the digests in it of the whole bundle.
    """

    path: Path
    manifest: Manifest
    digest: str

    @classmethod
    def open(cls, path: str | Path) -> Bundle:
        """Verify a folder and give it as a bundle.

        The folder itself may be reached through a link; nothing in it may be one.

        Raises:
            BundleError: the folder is not a bundle, or not whole, or holds what the manifest
                does not list; the message names the file and the rule.
        """
        root = Path(path).absolute()
        if not root.is_dir():
            what = "is not a folder" if root.exists() else "does not exist"
            raise BundleError(
                f"{path} {what}, expected a bundle: the folder that `dff-edge export` writes."
            )
        data = _read_manifest(root)
        bundle = cls(root, Manifest.parse(data), hashlib.sha256(data).hexdigest())
        bundle._check_folder()
        # A file may have several roles: of fp32, most graphs are the same for both flavours.
        roles: dict[str, list[tuple[Flavour, Precision, GraphName]]] = {}
        for flavour in FLAVOURS:
            for precision, paths in bundle.manifest.graph_paths(flavour).items():
                for graph, graph_path in paths.items():
                    roles.setdefault(graph_path, []).append((flavour, precision, graph))
        for name, record in bundle.manifest.files.items():
            verified = _read_verified(root, name, record)
            for flavour, precision, graph in roles.get(name, ()):
                check_graph(bundle.manifest, precision, graph, name, verified, flavour)
        return bundle

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """Precisions that the bundle holds for ONNX Runtime, fp32 first."""
        return self.precisions_for("ort")

    def precisions_for(self, flavour: Flavour) -> tuple[Precision, ...]:
        """Precisions that the bundle holds in a flavour, fp32 first."""
        held = self.manifest.graph_paths(flavour)
        return tuple(p for p in ("fp32", "fp16", "int8") if p in held)

    def graph_bytes(
        self, precision: Precision, graph: GraphName, flavour: Flavour = "ort"
    ) -> bytes:
        """Read one graph, verified: the bytes returned are those the digest was taken of.

        Raises:
            BundleError: the bundle does not hold it, or the file changed since ``open``.
        """
        name = self._graph_path(precision, graph, flavour)
        return _read_verified(self.path, name, self.manifest.files[name])

    def graph_summary(
        self, precision: Precision, graph: GraphName, flavour: Flavour = "ort"
    ) -> GraphSummary:
        """Give the inputs, outputs and operators of one graph, without an engine."""
        name = self._graph_path(precision, graph, flavour)
        data = self.graph_bytes(precision, graph, flavour)
        return check_onnx(data, name, plugins=_plugins(graph, flavour))

    def size_bytes(self, precision: Precision, flavour: Flavour = "ort") -> int:
        """Bytes of the feature, flow and task graphs of a precision; hand-made flow has none."""
        self._graph_path(precision, "feature", flavour)  # says what is missing
        held = self.manifest.graph_paths(flavour)[precision]
        subnets = ("feature", "flow", self.manifest.task_graph(flavour))
        names = {held[subnet] for subnet in subnets if subnet in held}
        return sum(self.manifest.files[name].bytes for name in names)

    def _graph_path(self, precision: Precision, graph: GraphName, flavour: Flavour) -> str:
        paths = self.manifest.graph_paths(flavour).get(precision)
        if paths is None:
            where = " for TensorRT" if flavour == "trt" else ""
            held = ", ".join(self.precisions_for(flavour)) or "none"
            maker = "export" if precision == "fp32" else f"calibrate --flavour {flavour}"
            raise BundleError(
                f"{self.path} holds no {precision} graphs{where}, only {held}. "
                f"`dff-edge {maker}` makes them."
            )
        name = paths.get(graph)
        if name is None:
            why = ""
            if graph == "flow":  # only hand-made flow has none
                why = f": its flow is computed by '{self.manifest.flow_function}'"
            raise BundleError(f"{self.path} holds no {graph} graph in {precision}{why}.")
        return name

    def _check_folder(self) -> None:
        """Refuse links, special files and whatever the manifest does not list."""
        listed = {MANIFEST_NAME, *self.manifest.files}
        folders = {name[:at] for name in listed for at, char in enumerate(name) if char == "/"}
        for name, mode in walk_folder(self.path):
            if stat.S_ISLNK(mode):
                raise BundleError(f"{self.path}: '{name}' is a link; a bundle holds plain files.")
            if stat.S_ISDIR(mode):
                if name not in folders:
                    raise BundleError(
                        f"{self.path}: the folder '{name}' is not listed in {MANIFEST_NAME}; "
                        "move what does not belong to the bundle out of it."
                    )
            elif not stat.S_ISREG(mode):
                raise BundleError(f"{self.path}: '{name}' is not a plain file.")
            elif name not in listed:
                raise BundleError(
                    f"{self.path}: the file '{name}' is not listed in {MANIFEST_NAME}; "
                    "move what does not belong to the bundle out of it."
                )


def check_graph(
    manifest: Manifest,
    precision: Precision,
    graph: GraphName,
    name: str,
    data: bytes,
    flavour: Flavour = "ort",
) -> None:
    """Refuse a graph that is unsafe to parse, or is not the one that it should be.

    Raises:
        BundleError: see ``check_file``, or inputs and outputs that differ from the contract.
    """
    summary = check_file(data, name, graph, flavour)
    contract = manifest.contract(precision, graph, flavour)
    problems = contract.problems(summary.inputs, summary.outputs)
    if problems:
        raise BundleError(
            f"{name} does not fit the manifest as the {graph} graph: {'; '.join(problems)}."
        )


def check_file(data: bytes, name: str, graph: GraphName, flavour: Flavour) -> GraphSummary:
    """Refuse a file that is not fit for any bundle in its place.

    Raises:
        BundleError: see ``check_onnx``, and ``check_for_tensorrt`` for that flavour; or a graph
            that is for the plugin and does not call it once.
    """
    plugins = _plugins(graph, flavour)
    summary = check_onnx(data, name, plugins=plugins)
    for plugin in plugins:
        count = summary.operators[f"{LOCAL_DOMAIN}::{plugin}"]
        if count != 1:
            raise BundleError(
                f"{name} has {count} nodes {plugin}, expected 1: it is the graph that takes the "
                "warp from TensorRT's plugin. Export and calibrate the bundle again."
            )
    if flavour == "trt":
        check_for_tensorrt(data, name)
    return summary


def _plugins(graph: GraphName, flavour: Flavour) -> tuple[str, ...]:
    return (WARP_PLUGIN,) if (flavour, graph) == ("trt", "propagate") else ()


def walk_folder(root: Path) -> Iterator[tuple[str, int]]:
    """Give ``(relative posix path, st_mode)`` of all in a folder, sorted, following no link.

    Staging folders are left out, with all that they hold.
    """
    pending = [""]
    while pending:
        folder = pending.pop(0)
        try:
            with os.scandir(root / folder) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
                modes = [(e.name, e.stat(follow_symlinks=False).st_mode) for e in found]
        except OSError as error:
            raise BundleError(f"{root / folder} cannot be listed: {error.strerror}.") from error
        for name, mode in modes:
            if not folder and name.startswith(STAGING_PREFIX) and stat.S_ISDIR(mode):
                continue
            relative = f"{folder}/{name}" if folder else name
            yield relative, mode
            if stat.S_ISDIR(mode):
                pending.append(relative)


def _read_manifest(root: Path) -> bytes:
    if not os.path.lexists(root / MANIFEST_NAME):
        raise BundleError(
            f"{root} holds no {MANIFEST_NAME}, so it is not a bundle. "
            "`dff-edge export` makes one from a checkpoint."
        )
    return _read_file(root, MANIFEST_NAME, MAX_MANIFEST_BYTES)


def _read_verified(root: Path, name: str, record: FileRecord) -> bytes:
    data = _read_file(root, name, record.bytes)
    if len(data) != record.bytes:
        raise BundleError(
            f"{root}: '{name}' has {len(data)} bytes, the manifest says {record.bytes}. "
            "It is incomplete or was changed; copy or export the bundle again."
        )
    digest = hashlib.sha256(data).hexdigest()
    if digest != record.sha256:
        raise BundleError(
            f"{root}: '{name}' has the digest {digest[:12]}..., the manifest says "
            f"{record.sha256[:12]}.... It was damaged or changed; copy or export the bundle again."
        )
    return data


def _read_file(root: Path, name: str, max_bytes: int) -> bytes:
    """Read a plain file through no link, at most ``max_bytes``; a larger one is refused."""
    problem = path_problem(name)
    if problem:  # the manifest was checked; this guards callers to come
        raise BundleError(f"{root}: {name!r} is not a file name of a bundle, expected {problem}.")
    # NONBLOCK: a FIFO that was put here meanwhile must not hang the reader.
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    flags |= getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    try:
        if stat.S_ISLNK(os.lstat(root / name).st_mode):
            raise BundleError(f"{root}: '{name}' is a link; a bundle holds plain files.")
        with open(os.open(root / name, flags), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise BundleError(f"{root}: '{name}' is not a plain file.")
            if status.st_size > max_bytes:
                raise BundleError(
                    f"{root}: '{name}' has {status.st_size} bytes, expected at most {max_bytes}."
                )
            return file.read(status.st_size + 1)  # one more: it may have grown meanwhile
    except FileNotFoundError as error:
        raise BundleError(
            f"{root}: '{name}' is missing. Copy or export the bundle again."
        ) from error
    except OSError as error:
        raise BundleError(f"{root}: '{name}' cannot be read: {error.strerror}.") from error
