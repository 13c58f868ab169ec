"""A bundle's engines on the CPU; those of ONNX Runtime, optimised ahead where that was done."""

from __future__ import annotations

import platform
from collections.abc import Callable
from functools import partial

from dff_edge import _native
from dff_edge.bundle.reader import Bundle
from dff_edge.cpuinfo import overflows_here
from dff_edge.errors import require
from dff_edge.names import GraphName, Precision, Subnet
from dff_edge.runtime.devices.cpu import CpuDevice
from dff_edge.runtime.devices.niceness import call_at_lower_priority
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
        precision: which of its graphs.
        options: threads of the networks, and whether those of the feature network have a lower
            priority.
        open_graph: opens a graph of the bundle, to run with so many threads.

    Raises:
        BundleError: the bundle lacks the precision.
        EngineError, MissingDependencyError: a graph cannot be loaded.
    """

    def open_feature(count: int) -> Engine:
        open_one = partial(open_graph, "feature", count)
        return call_at_lower_priority(open_one) if options.background else open_one()

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
            if subnet == "feature":
                engines[subnet] = open_feature(count)
            elif subnet == "flow" and bundle.manifest.flow_function != "network":
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
    return Opened(CpuDevice(threads), subnets, open_feature if options.background else None)


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
        flags="extended, exact" if overflows_here() else "extended",  # see session_options
        load=load,
    )
