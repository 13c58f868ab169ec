"""The bundle: a folder with everything that a device needs, verified when opened.

``Bundle.open`` checks the manifest, then the folder against it, then every file: its digest and
its contents, in one pass and before any native code parses it. Afterwards ``graph_bytes`` reads a
file once and checks the digest of exactly the bytes that it returns, so that they are the checked
ones even if the folder has changed meanwhile.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from dff_edge.bundle.folder import BundleFolder
from dff_edge.bundle.graphs.byte_stream import ByteStream
from dff_edge.bundle.graphs.check import check_graph, read_graph
from dff_edge.bundle.graphs.onnx_check import GraphSummary
from dff_edge.bundle.manifest import Manifest
from dff_edge.bundle.records import FileRecord
from dff_edge.errors import BundleError, BundleReplacedError
from dff_edge.names import FLAVOURS, PRECISIONS, Flavour, GraphName, Precision

T = TypeVar("T")

_MOST_TRIES = 20  # to read a bundle that is replaced again and again


@dataclass(frozen=True, slots=True)
class Bundle:
    """A verified bundle. Open it with ``Bundle.open``, once, and pass it on.

    Attributes:
        path: the folder, absolute.
        manifest: its manifest.
        digest: sha256 of manifest.json, which contains the digests of all files.
        summaries: properties of each graph, by the name of its file.
    """

    path: Path
    manifest: Manifest
    digest: str
    summaries: Mapping[str, GraphSummary] = field(repr=False)

    @classmethod
    def open(cls, path: str | Path) -> Bundle:
        """Verify a folder and return it as a bundle.

        The folder itself may be reached through a link; nothing in it may be one. While
        another process writes the bundle, the old or the new one is opened.

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
        folder = BundleFolder(root)
        for _ in range(_MOST_TRIES):
            data = folder.manifest_bytes()
            try:
                return cls._open_as(folder, data)
            except BundleError:
                if folder.manifest_bytes() == data:  # no other process has replaced it
                    raise
        raise BundleReplacedError(f"{root} is replaced by other processes again and again.")

    @classmethod
    def _open_as(cls, folder: BundleFolder, data: bytes) -> Bundle:
        """Open the bundle of a manifest."""
        manifest = Manifest.parse(data)
        folder.check(manifest.files)
        summaries: dict[str, GraphSummary] = {}
        for name, roles in roles_of(manifest).items():
            record = manifest.files[name]
            with folder.open_file(name, record.bytes) as (file, size):
                _check_size(folder.root, name, size, record)
                stream = ByteStream(file, size)
                try:
                    graph = read_graph(stream, name, {(f, graph) for f, _, graph in roles})
                except BundleError:
                    # Damage is reported as such, not by its symptoms.
                    _check_digest(folder.root, name, stream.sha256(), record)
                    raise
                _check_digest(folder.root, name, stream.sha256(), record)
            for flavour, precision, graph_name in roles:
                check_graph(manifest, precision, graph_name, name, graph, flavour)
            summaries[name] = graph.summary
        return cls(folder.root, manifest, hashlib.sha256(data).hexdigest(), summaries)

    @staticmethod
    def use(path: str | Path, function: Callable[[Bundle], T]) -> T:
        """Call a function on an opened bundle; open it again if it is replaced meanwhile.

        Args:
            path: the folder.
            function: has no lasting effect when it raises.

        Raises:
            BundleError: see ``open``; the bundle was replaced again and again.
        """
        for _ in range(_MOST_TRIES - 1):
            try:
                return function(Bundle.open(path))
            except BundleReplacedError:
                continue
        return function(Bundle.open(path))

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """Precisions that the bundle holds for ONNX Runtime, fp32 first."""
        return self.precisions_for("ort")

    def precisions_for(self, flavour: Flavour) -> tuple[Precision, ...]:
        """Precisions that the bundle holds in a flavour, fp32 first."""
        held = self.manifest.graph_paths(flavour)
        return tuple(p for p in PRECISIONS if p in held)

    def graph_bytes(
        self, precision: Precision, graph: GraphName, flavour: Flavour = "ort"
    ) -> bytes:
        """Read one graph, verified: the bytes returned are those the digest was taken of.

        Raises:
            BundleError: the bundle does not hold it, or the file changed since ``open``.
            BundleReplacedError: another bundle is in its place since ``open``.
        """
        name = self._graph_path(precision, graph, flavour)
        folder, record = BundleFolder(self.path), self.manifest.files[name]
        try:
            with folder.open_file(name, record.bytes) as (file, size):
                _check_size(self.path, name, size, record)
                data = file.read(size)
            _check_size(self.path, name, len(data), record)
            _check_digest(self.path, name, hashlib.sha256(data).hexdigest(), record)
        except BundleError as error:
            if self._is_replaced(folder):
                raise BundleReplacedError(
                    f"{self.path} was replaced since it was opened; open it again."
                ) from error
            raise
        return data

    def graph_summary(
        self, precision: Precision, graph: GraphName, flavour: Flavour = "ort"
    ) -> GraphSummary:
        """Return the inputs, outputs and operators of one graph, without an engine."""
        return self.summaries[self._graph_path(precision, graph, flavour)]

    def size_bytes(self, precision: Precision, flavour: Flavour = "ort") -> int:
        """Return the bytes of a precision's feature, flow (if any) and task graphs."""
        self._graph_path(precision, "feature", flavour)  # raises when it is missing
        held = self.manifest.graph_paths(flavour)[precision]
        subnets = ("feature", "flow", self.manifest.task_graph(flavour))
        names = {held[subnet] for subnet in subnets if subnet in held}
        return sum(self.manifest.files[name].bytes for name in names)

    def _is_replaced(self, folder: BundleFolder) -> bool:
        try:
            return hashlib.sha256(folder.manifest_bytes()).hexdigest() != self.digest
        except BundleError:
            return False

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
            if graph == "flow":  # missing for hand-crafted flow only
                why = f": its flow is computed by '{self.manifest.flow_function}'"
            raise BundleError(f"{self.path} holds no {graph} graph in {precision}{why}.")
        return name


def roles_of(manifest: Manifest) -> dict[str, list[tuple[Flavour, Precision, GraphName]]]:
    """Return the graphs that each file serves as. Of fp32, most serve both flavours."""
    roles: dict[str, list[tuple[Flavour, Precision, GraphName]]] = {}
    for flavour in FLAVOURS:
        for precision, paths in manifest.graph_paths(flavour).items():
            for graph, name in paths.items():
                roles.setdefault(name, []).append((flavour, precision, graph))
    return roles


def _check_size(root: Path, name: str, size: int, record: FileRecord) -> None:
    if size != record.bytes:
        raise BundleError(
            f"{root}: '{name}' has {size} bytes, the manifest says {record.bytes}. "
            "It is incomplete or was changed; copy or export the bundle again."
        )


def _check_digest(root: Path, name: str, digest: str, record: FileRecord) -> None:
    if digest != record.sha256:
        raise BundleError(
            f"{root}: '{name}' has the digest {digest[:12]}..., the manifest says "
            f"{record.sha256[:12]}.... It was damaged or changed; copy or export the bundle again."
        )
