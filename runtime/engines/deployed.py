"""Engines that ``dff-edge deploy`` has built for this machine: their keys, and how they are opened.

What an engine depends on is said here once, for who builds it and for who looks for it.
"""

from __future__ import annotations

import logging
import platform
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from dff_edge import _native
from dff_edge.bundle.contract import Flavour, GraphName, Precision
from dff_edge.bundle.reader import Bundle
from dff_edge.errors import EngineError, MissingDependencyError, require
from dff_edge.files.cache_folder import default_cache_folder
from dff_edge.packages import install_command
from dff_edge.runtime.engines.base import CUDA_PROVIDER, Engine, OrtEngine
from dff_edge.runtime.engines.cache import EngineCache, EngineKey, difference

if TYPE_CHECKING:
    from dff_edge.runtime.devices.cuda.device import CudaDevice

_log = logging.getLogger("dff_edge.runtime")

TargetName = Literal["cpu", "cuda", "tensorrt"]
TARGETS: tuple[TargetName, ...] = get_args(TargetName)


@dataclass(frozen=True, slots=True)
class Platform:
    """A target as it is on this machine.

    Attributes:
        target: what runs engines.
        runtime: its name and version.
        device: name of the device, and what else of it engines depend on.
        flavour: of the graphs that engines are built from.
        flags: what the builder is always told that changes results.
        plugin_sha256: of the warp's plugin; None where there is none.
        hardware: the CUDA device; None for the CPU.
    """

    target: TargetName
    runtime: str
    device: str
    flavour: Flavour
    flags: str
    plugin_sha256: str | None = None
    hardware: CudaDevice | None = None

    def key(self, bundle: Bundle, precision: Precision, graph: GraphName) -> EngineKey:
        """The key of the engine of a bundle's graph.

        Raises:
            BundleError: the bundle does not hold the graph.
        """
        paths = bundle.manifest.graph_paths(self.flavour).get(precision, {})
        if graph not in paths:
            bundle.graph_bytes(precision, graph, self.flavour)  # says what is missing
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
        """Whether a graph's engine calls the warp's plugin."""
        return self.target == "tensorrt" and graph == "propagate"

    def open(
        self,
        data: bytes,
        *,
        name: str,
        graph: GraphName,
        threads: int | None,
        priority: int = 0,
    ) -> Engine:
        """Open an engine's bytes, which are code: from a verified cache, or just built.

        Args:
            data: the bytes.
            name: what messages call the engine.
            graph: what it was built of.
            threads: of one run on the CPU.
            priority: of the stream that ONNX Runtime has for itself on a GPU.

        Raises:
            EngineError: when they do not load here.
            MissingDependencyError: when a package or the plugin is missing.
        """
        if self.hardware is None:
            return OrtEngine(data, name=name, threads=threads)
        if self.target == "cuda":
            from dff_edge.runtime.engines.onnxruntime_cuda import (
                OrtCudaEngine,  # an optional package
            )

            return OrtCudaEngine(data, name=name, device=self.hardware, priority=priority)
        from dff_edge.runtime.engines.tensorrt import TensorRtEngine  # an optional package

        needs_plugin = self.calls_plugin(graph)
        return TensorRtEngine(data, name=name, device=self.hardware, plugin=needs_plugin)


def check_packages(target: TargetName) -> None:
    """Import what a target needs, before a device is opened: to be told of all that is missing.

    Raises:
        MissingDependencyError: when a package is missing, or onnxruntime is one without CUDA.
    """
    if target == "tensorrt":
        from dff_edge.runtime.engines.tensorrt_library import load_tensorrt  # an optional package

        load_tensorrt()
        return
    ort = _load_onnxruntime(target)
    providers = ort.get_available_providers()
    if target == "cuda" and CUDA_PROVIDER not in providers:
        raise MissingDependencyError(
            f"Running on the target cuda needs ONNX Runtime with CUDA, and this one has "
            f"{', '.join(providers)}. Install it with: {install_command('cuda')}"
        )


def _load_onnxruntime(target: TargetName) -> Any:
    extra = "cuda" if target == "cuda" else "cpu"
    return require("onnxruntime", extra=extra, purpose=f"Running on the target {target}")


def find_platform(
    target: TargetName, device: CudaDevice | None = None, *, plugin: bool = True
) -> Platform:
    """Say what a target is on this machine.

    Args:
        target: what runs engines.
        device: for "cuda" and "tensorrt".
        plugin: whether the warp's plugin is wanted, with TensorRT.

    Raises:
        MissingDependencyError: when a package or the plugin is missing.
    """
    if target == "tensorrt":
        from dff_edge.runtime.engines import tensorrt_library as library

        assert device is not None
        trt = library.load_tensorrt()
        return Platform(
            target=target,
            runtime=library.tensorrt_version(trt),
            device=_describe(device),
            flavour="trt",
            flags="strongly typed, no TF32",
            plugin_sha256=library.plugin_sha256(trt) if plugin else None,
            hardware=device,
        )
    ort = _load_onnxruntime(target)
    if target == "cuda":
        assert device is not None
        where, flags = _describe(device), "extended, no TF32"
    else:
        # INT8 weights may be laid out for the instruction set.
        where, flags = f"{platform.machine()} ({_native.simd()})", "extended"
    return Platform(target, f"ONNX Runtime {ort.__version__}", where, "ort", flags, hardware=device)


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
        EngineError: when there is none for this machine, or it is damaged; the message says for
            what there is one, and how to build it.
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
    return platform.open(found.data, name=name, graph=graph, threads=threads)


def open_optimised(
    bundle: Bundle,
    precision: Precision,
    graph: GraphName,
    platform: Platform,
    *,
    threads: int | None = None,
    priority: int = 0,
) -> Engine:
    """Open a bundle's graph in ONNX Runtime, optimised ahead where ``dff-edge deploy`` did so.

    Both compute the same; what was optimised ahead is ready sooner.

    Raises:
        EngineError: the graph cannot be loaded.
        BundleError: the bundle does not hold the graph.
        MissingDependencyError: when a package is missing.
    """
    found = None
    try:
        if default_cache_folder().is_dir():  # looking for an engine makes no folder
            found = EngineCache().load(platform.key(bundle, precision, graph))
    except EngineError as error:  # a folder that others may write to, or a damaged file
        _log.warning("%s The bundle's own %s graph is taken.", error, graph)
    data = bundle.graph_bytes(precision, graph) if found is None else found.data
    name = f"{precision} {graph}"
    return platform.open(data, name=name, graph=graph, threads=threads, priority=priority)


def why_missing(cache: EngineCache, key: EngineKey) -> str:
    """Say what the newest engine of the same graph was built for; empty when there is none."""
    similar = cache.similar(key)
    return f"; one was {difference(key, similar[0].key)}" if similar else ""


def _describe(device: CudaDevice) -> str:
    major, minor = device.compute_capability
    return f"{device.name} (compute capability {major}.{minor})"
