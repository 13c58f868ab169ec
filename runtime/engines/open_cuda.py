"""A GPU and the engines of a bundle on it, which are opened and closed together."""

from __future__ import annotations

from collections.abc import Callable

from dff_edge.bundle.reader import Bundle
from dff_edge.names import Flavour, GraphName, Precision
from dff_edge.runtime.devices.cuda.device import CudaDevice, open_device
from dff_edge.runtime.engines.base import Engine
from dff_edge.runtime.engines.options import EngineOptions
from dff_edge.runtime.engines.subnets import Opened, Subnets

# Opens engines into a dictionary, so that those opened before a failure can be closed.
OpenGraphs = Callable[[CudaDevice, dict[GraphName, Engine]], None]


def open_on_cuda(
    bundle: Bundle,
    precision: Precision,
    flavour: Flavour,
    options: EngineOptions,
    open_graphs: OpenGraphs,
) -> Opened:
    """Open the GPU and a bundle's engines on it.

    Args:
        bundle: a verified bundle.
        precision: of the graphs.
        flavour: of the graphs.
        options: options of running on a GPU.
        open_graphs: opens the engines: of feature, flow and task network, and, where the device
            does not warp, of the graph that replaces warp and task network.

    Raises:
        BundleError: the bundle lacks the precision.
        EngineError: no GPU, a graph cannot be loaded, or has not been deployed on this machine.
        MissingDependencyError: a package or a library is missing.
    """
    device = open_device(options.cuda.driver, options.cuda.ordinal)
    engines: dict[GraphName, Engine] = {}
    try:
        open_graphs(device, engines)
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
    return Opened(device, subnets)
