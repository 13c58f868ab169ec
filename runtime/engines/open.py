"""Engines of a bundle and the device they run on, by the name of the backend."""

from __future__ import annotations

from dff_edge.bundle.reader import Bundle
from dff_edge.errors import ConfigError
from dff_edge.names import Precision
from dff_edge.runtime.engines.backends import (
    DEFAULT_BACKEND,
    backend_of,
    load_function,
    names_on,
)
from dff_edge.runtime.engines.options import CudaOptions, EngineOptions
from dff_edge.runtime.engines.subnets import Opened


def precisions_for(bundle: Bundle, engine: str) -> tuple[Precision, ...]:
    """Return the precisions of a bundle that a backend runs, fp32 first.

    Raises:
        ConfigError: there is no such backend.
    """
    backend = backend_of(engine)
    return tuple(p for p in bundle.precisions_for(backend.flavour) if p in backend.precisions)


def open_subnets(
    bundle: Bundle,
    precision: Precision,
    engine: str = DEFAULT_BACKEND,
    *,
    threads: int | None = None,
    flow_threads: int | None = None,
    cuda: CudaOptions | None = None,
) -> Opened:
    """Open a bundle's engines.

    Args:
        bundle: a verified bundle.
        precision: of the graphs.
        engine: name of a backend: "onnxruntime" or "openvino" on the CPU; "cuda" for ONNX Runtime,
            "tensorrt" for the engines that ``dff-edge deploy`` made, on an NVIDIA GPU.
        threads: on the CPU, of the feature network; None means all cores of this process.
        flow_threads: of the flow network; None means the same number.
        cuda: options of running on a GPU.

    Raises:
        BundleError: the bundle lacks the precision.
        ConfigError: for another engine, or one on a GPU for hand-crafted flow.
        EngineError: a graph cannot be loaded, or has not been deployed on this machine.
        MissingDependencyError: a package of the engine is not installed.
    """
    backend = backend_of(engine)
    flow = bundle.manifest.flow_function
    if backend.device != "cpu" and flow != "network":
        raise ConfigError(
            f"engine is '{engine}', expected {' or '.join(names_on('cpu'))}: the flow of "
            f"{bundle.path} is computed by '{flow}', which runs on the CPU."
        )
    options = EngineOptions(threads, flow_threads, cuda or CudaOptions())
    opened: Opened = load_function(backend.opener)(bundle, precision, options)
    return opened
