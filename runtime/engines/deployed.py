"""Engines that ``dff-edge deploy`` has built for this machine: their keys, and how they are opened.

``Platform`` returns the key of an engine, for building it and for looking it up. Each backend that
has a target has its own.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from dff_edge.bundle.reader import Bundle
from dff_edge.errors import EngineError
from dff_edge.files.cache_folder import default_cache_folder
from dff_edge.names import Flavour, GraphName, Precision
from dff_edge.runtime.engines.base import Engine
from dff_edge.runtime.engines.cache import EngineCache, EngineKey, difference

if TYPE_CHECKING:
    from dff_edge.runtime.devices.cuda.device import CudaDevice

_log = logging.getLogger("dff_edge.runtime")


class Load(Protocol):
    """Opens an engine's bytes, which are code: from a verified cache, or just built."""

    def __call__(self, data: bytes, *, name: str, graph: GraphName, threads: int | None) -> Engine:
        """Open them.

        Raises:
            EngineError: when they do not load here.
            MissingDependencyError: when a package or the plugin is missing.
        """


@dataclass(frozen=True, slots=True)
class Platform:
    """A target on this machine.

    Attributes:
        target: its name.
        runtime: name and version of the backend of its engines.
        device: name of the device, and the properties of it that engines depend on.
        flavour: of the graphs that engines are built from.
        flags: options that the builder always gets and that change results.
        load: opens its engines.
        plugin_sha256: of the plugin for the warp; None where there is none.
        hardware: the CUDA device; None for the CPU.
    """

    target: str
    runtime: str
    device: str
    flavour: Flavour
    flags: str
    load: Load
    plugin_sha256: str | None = None
    hardware: CudaDevice | None = None

    def key(self, bundle: Bundle, precision: Precision, graph: GraphName) -> EngineKey:
        """Return the key of the engine of a bundle's graph.

        Raises:
            BundleError: the bundle does not hold the graph.
        """
        paths = bundle.manifest.graph_paths(self.flavour).get(precision, {})
        if graph not in paths:
            bundle.graph_bytes(precision, graph, self.flavour)  # raises when it is missing
        return EngineKey(
            target=self.target,
            precision=precision,
            subnet=graph,
            graph_sha256=bundle.manifest.files[paths[graph]].sha256,
            plugin_sha256=self.plugin_sha256 if self.calls_plugin(graph) else None,
            runtime=self.runtime,
            device=self.device,
            flags=self.flags,
        )

    def calls_plugin(self, graph: GraphName) -> bool:
        """Return whether a graph's engine calls the plugin for the warp."""
        return self.plugin_sha256 is not None and graph == "propagate"


def open_deployed(
    bundle: Bundle,
    precision: Precision,
    graph: GraphName,
    platform: Platform,
    cache: EngineCache,
    *,
    threads: int | None = None,
) -> Engine:
    """Open the engine that was built for a bundle's graph.

    Raises:
        EngineError: when there is none for this machine, or it is damaged; the message reports
            what an existing engine was built for, and the command to build one.
        BundleError: the bundle does not hold the graph.
        MissingDependencyError: when a package or the plugin is missing.
    """
    key = platform.key(bundle, precision, graph)
    found = cache.load(key)
    if found is None:
        warp = " --warp gridsample" if graph == "propagate_portable" else ""
        raise EngineError(
            f"the {precision} {graph} graph of {bundle.path} has no {platform.runtime} engine for "
            f"{platform.device}{why_missing(cache, key)}. Build it: dff-edge deploy {bundle.path} "
            f"--target {platform.target} --precision {precision}{warp}"
        )
    name = f"{precision} {graph}"
    return platform.load(found.data, name=name, graph=graph, threads=threads)


def open_optimised(
    bundle: Bundle,
    precision: Precision,
    graph: GraphName,
    platform: Platform,
    *,
    threads: int | None = None,
) -> Engine:
    """Open a bundle's graph, optimised ahead if ``dff-edge deploy`` did so.

    Both compute the same; a graph that was optimised ahead loads faster.

    Raises:
        EngineError: the graph cannot be loaded.
        BundleError: the bundle does not hold the graph.
        MissingDependencyError: when a package is missing.
    """
    found = None
    try:
        if default_cache_folder().is_dir():  # a look-up creates no folder
            found = EngineCache().load(platform.key(bundle, precision, graph))
    except EngineError as error:  # a folder that others may write to, or a damaged file
        _log.warning("%s The bundle's own %s graph is used.", error, graph)
    data = bundle.graph_bytes(precision, graph) if found is None else found.data
    name = f"{precision} {graph}"
    return platform.load(data, name=name, graph=graph, threads=threads)


def why_missing(cache: EngineCache, key: EngineKey) -> str:
    """Describe what the newest engine of the same graph was built for; empty if there is none."""
    similar = cache.similar(key)
    return f"; one was {difference(key, similar[0].key)}" if similar else ""


def describe_gpu(device: CudaDevice) -> str:
    """Return the properties of a GPU that engines depend on."""
    major, minor = device.compute_capability
    return f"{device.name} (compute capability {major}.{minor})"
