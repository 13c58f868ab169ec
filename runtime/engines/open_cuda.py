"""A bundle's engines on an NVIDIA GPU."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Literal

from dff_edge.bundle.contract import Flavour, GraphName, Precision
from dff_edge.bundle.reader import Bundle
from dff_edge.errors import EngineError, MissingDependencyError
from dff_edge.runtime.devices.base import ANSWERS_FIRST, FEATURES_LATER
from dff_edge.runtime.devices.cuda.choose_graphs import choose_graphs
from dff_edge.runtime.devices.cuda.device import CudaDevice, open_device
from dff_edge.runtime.devices.cuda.kernels import LIBRARY_VARIABLE, library_path
from dff_edge.runtime.engines.base import Engine
from dff_edge.runtime.engines.cache import EngineCache
from dff_edge.runtime.engines.deployed import (
    check_packages,
    find_platform,
    open_deployed,
    open_optimised,
)
from dff_edge.runtime.engines.subnets import Subnets

if TYPE_CHECKING:
    from dff_edge.runtime.engines.open import CudaOptions

_log = logging.getLogger("dff_edge.runtime")


def open_on_cuda(
    bundle: Bundle,
    precision: Precision,
    engine: Literal["cuda", "tensorrt"],
    options: CudaOptions,
    *,
    background: bool = False,
) -> tuple[CudaDevice, Subnets]:
    """Open the GPU and a bundle's engines on it.

    Args:
        bundle: a verified bundle.
        precision: which of its graphs.
        engine: "cuda" for ONNX Runtime, which takes the bundle's graphs as they are; "tensorrt" for
            the engines that ``dff-edge deploy`` made.
        options: how the GPU is used.
        background: whether the feature network steps back for the others.

    Returns:
        The device and the engines; whoever takes them closes both, the engines first.

    Raises:
        BundleError: the bundle lacks the precision.
        EngineError: no GPU, a graph cannot be loaded, or has not been deployed on this machine.
        MissingDependencyError: a package or a library is missing.
    """
    check_packages(engine)
    device = open_device(options.driver, options.ordinal)
    engines: dict[GraphName, Engine] = {}
    try:
        if engine == "cuda":
            _open_in_onnxruntime(engines, bundle, precision, device, options, background=background)
        else:
            _open_in_tensorrt(engines, bundle, precision, device, options)
        flavour: Flavour = "ort" if engine == "cuda" else "trt"
        subnets = Subnets(
            engines["feature"],
            engines["flow"],
            engines[bundle.manifest.task_graph(flavour)],
            bundle.manifest.map_levels(precision, flavour),
            engines.get("propagate") or engines.get("propagate_portable"),
        )
    except BaseException:
        for opened in engines.values():
            opened.close()
        device.close()
        raise
    return device, subnets


def _open_in_onnxruntime(
    engines: dict[GraphName, Engine],
    bundle: Bundle,
    precision: Precision,
    device: CudaDevice,
    options: CudaOptions,
    *,
    background: bool,
) -> None:
    """The warp is the native kernel where that was built, else the portable graph."""
    if options.graphs:
        raise EngineError(
            "CUDA graphs were asked for with the engine 'cuda': ONNX Runtime's work is not "
            "recorded. Use the engine 'tensorrt', or leave graphs to None."
        )
    graphs: tuple[GraphName, ...] = ("feature", "flow", bundle.manifest.task_graph())
    if not _has_kernels():
        if bundle.manifest.task == "detection":  # its propagate.onnx gives boxes, and no maps
            raise EngineError(
                "libdff_cuda.so was not built, and the engine 'cuda' needs its warp to detect. "
                "Build the CUDA kernels (docs/gpu.md), or take the engine 'tensorrt' or the CPU."
            )
        _log.info("libdff_cuda.so was not built: warp and task network are propagate.onnx")
        graphs = (*graphs, "propagate")
    platform = find_platform("cuda", device)
    for graph in graphs:
        own = FEATURES_LATER if graph == "feature" else ANSWERS_FIRST
        priority = own if background else 0
        engines[graph] = open_optimised(bundle, precision, graph, platform, priority=priority)


def _open_in_tensorrt(
    engines: dict[GraphName, Engine],
    bundle: Bundle,
    precision: Precision,
    device: CudaDevice,
    options: CudaOptions,
) -> None:
    platform = find_platform("tensorrt", device, plugin=options.plugin)
    cache = EngineCache()
    warp: GraphName = "propagate" if options.plugin else "propagate_portable"
    graphs: tuple[GraphName, ...] = ("feature", "flow", "task", warp)
    for graph in graphs:
        opened = open_deployed(bundle, precision, graph, platform, cache)
        engines[graph] = opened  # closed by the caller when measuring it fails
        engines[graph], reason = choose_graphs(opened, device, options.graphs)
        _log.info("%s: %s", opened.name, reason)


def _has_kernels() -> bool:
    """Whether the CUDA kernels were built; a library that is named must be there."""
    if os.environ.get(LIBRARY_VARIABLE):
        return library_path().is_file()
    try:
        library_path()
    except MissingDependencyError:
        return False
    return True
