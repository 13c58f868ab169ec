"""A bundle's engines on the CPU; those of ONNX Runtime, optimised ahead where that was done."""

from __future__ import annotations

import platform
from collections.abc import Callable

from dff_edge import _native
from dff_edge.bundle.reader import Bundle
from dff_edge.errors import require
from dff_edge.names import GraphName, Precision, Subnet
from dff_edge.runtime.devices.cpu import CpuDevice
from dff_edge.runtime.engines.base import Engine, usable_cores
from dff_edge.runtime.engines.deployed import Platform, open_optimised
from dff_edge.runtime.engines.hand_crafted_flow import open_flow
from dff_edge.runtime.engines.onnxruntime import OrtEngine
from dff_edge.runtime.engines.options import EngineOptions
from dff_edge.runtime.engines.subnets import Opened, Subnets

OpenGraph = Callable[[GraphName, int], Engine]


def open_on_cpu(
    bundle: Bundle, precision: Precision, options: EngineOptions, open_graph: OpenGraph
) -> Opened:
    """Open the subnets of a bundle on the CPU.

    Args:
        bundle: a verified bundle.
        precision: of the graphs.
        options: threads of the networks.
        open_graph: opens a graph of the bundle, to run with a number of threads.

    Raises:
        BundleError: the bundle lacks the precision.
        EngineError, MissingDependencyError: a graph cannot be loaded.
    """
    threads = options.threads or usable_cores()
    # The task network is one small matrix product: more threads would mostly wake each other.
    counts: dict[Subnet, int] = {
        "feature": threads,
        "flow": options.flow_threads or threads,
        "task": 1,
    }
    engines: dict[Subnet, Engine] = {}
    try:
        for subnet, count in counts.items():
            if subnet == "flow" and bundle.manifest.flow_function != "network":
                engines[subnet] = open_flow(bundle, precision, threads=count)
            else:
                graph = bundle.manifest.task_graph() if subnet == "task" else subnet
                engines[subnet] = open_graph(graph, count)
    except BaseException:
        for opened in engines.values():
            opened.close()
        raise
    subnets = Subnets(
        engines["feature"],
        engines["flow"],
        engines["task"],
        bundle.manifest.map_levels(precision),
    )
    return Opened(CpuDevice(threads), subnets)


def open_onnxruntime(bundle: Bundle, precision: Precision, options: EngineOptions) -> Opened:
    """Open a bundle in ONNX Runtime. See ``open_on_cpu``."""
    here = cpu_platform()

    def open_graph(graph: GraphName, threads: int) -> Engine:
        return open_optimised(bundle, precision, graph, here, threads=threads)

    return open_on_cpu(bundle, precision, options, open_graph)


def cpu_platform() -> Platform:
    """Return the platform of ONNX Runtime's engines for the CPU.

    Raises:
        MissingDependencyError: onnxruntime is not installed.
    """
    ort = require("onnxruntime", extra="cpu", purpose="Running on the target cpu")

    def load(data: bytes, *, name: str, graph: GraphName, threads: int | None) -> Engine:
        return OrtEngine(data, name=name, threads=threads)

    return Platform(
        target="cpu",
        runtime=f"ONNX Runtime {ort.__version__}",
        # INT8 weights may be laid out for the instruction set.
        device=f"{platform.machine()} ({_native.simd()})",
        flavour="ort",
        flags="extended",
        load=load,
    )
