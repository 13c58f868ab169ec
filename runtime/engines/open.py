"""The engines of a bundle and the device they run on, by the name of what computes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dff_edge.bundle.reader import Bundle
from dff_edge.errors import ConfigError
from dff_edge.names import ENGINES, EngineName, Flavour, Precision, Subnet
from dff_edge.runtime.devices.base import Device
from dff_edge.runtime.devices.cpu import CpuDevice
from dff_edge.runtime.engines.base import Engine, usable_cores
from dff_edge.runtime.engines.deployed import find_platform, open_optimised
from dff_edge.runtime.engines.hand_crafted_flow import open_flow
from dff_edge.runtime.engines.options import CudaOptions
from dff_edge.runtime.engines.subnets import Subnets


@dataclass(frozen=True)
class Opened:
    """Engines and their device, which close together."""

    device: Device
    subnets: Subnets

    def close(self) -> None:
        """Free all engines, then the device. Closing twice is allowed."""
        self.subnets.close()
        self.device.close()


def flavour_of(engine: EngineName) -> Flavour:
    """Whose rules the graphs of an engine follow."""
    return "trt" if engine == "tensorrt" else "ort"


def precisions_for(bundle: Bundle, engine: EngineName) -> tuple[Precision, ...]:
    """Precisions of a bundle that an engine runs, fp32 first."""
    held = bundle.precisions_for(flavour_of(engine))
    # ONNX Runtime's CUDA provider has no integer convolution.
    return tuple(p for p in held if p != "int8") if engine == "cuda" else held


def open_subnets(
    bundle: Bundle,
    precision: Precision,
    engine: EngineName = "onnxruntime",
    *,
    threads: int | None = None,
    flow_threads: int | None = None,
    cuda: CudaOptions | None = None,
) -> Opened:
    """Open a bundle's engines.

    Args:
        bundle: a verified bundle.
        precision: which of its graphs.
        engine: "onnxruntime" or "openvino" on the CPU; "cuda" for ONNX Runtime, "tensorrt" for the
            engines that ``dff-edge deploy`` made, on an NVIDIA GPU.
        threads: on the CPU, of the feature network; None means all cores of this process.
        flow_threads: of the flow network; None means as many.
        cuda: how the GPU is used.

    Raises:
        BundleError: the bundle lacks the precision.
        ConfigError: for another engine, or one on a GPU for hand-made flow.
        EngineError: a graph cannot be loaded, or has not been deployed on this machine.
        MissingDependencyError: a package of the engine is not installed.
    """
    if engine == "cuda" or engine == "tensorrt":
        flow = bundle.manifest.flow_function
        if flow != "network":
            raise ConfigError(
                f"engine is '{engine}', expected onnxruntime or openvino: the flow of "
                f"{bundle.path} is computed by '{flow}', which runs on the CPU."
            )
        from dff_edge.runtime.engines.open_cuda import open_on_cuda  # optional packages

        return Opened(*open_on_cuda(bundle, precision, engine, cuda or CudaOptions()))
    if engine not in ENGINES:
        raise ConfigError(f"engine is '{engine}', expected one of {', '.join(ENGINES)}.")
    threads = threads or usable_cores()
    # The task network is one small matrix product, whose threads would mostly wake each other.
    counts: dict[Subnet, int] = {"feature": threads, "flow": flow_threads or threads, "task": 1}
    return Opened(CpuDevice(threads), _open_on_cpu(bundle, precision, engine, counts))


def _open_on_cpu(
    bundle: Bundle,
    precision: Precision,
    engine: Literal["onnxruntime", "openvino"],
    threads: dict[Subnet, int],
) -> Subnets:
    engines: dict[Subnet, Engine] = {}
    try:
        for subnet, count in threads.items():
            graph = bundle.manifest.task_graph() if subnet == "task" else subnet
            if subnet == "flow" and bundle.manifest.flow_function != "network":
                engines[subnet] = open_flow(bundle, precision, threads=count)
            elif engine == "onnxruntime":
                engines[subnet] = open_optimised(
                    bundle, precision, graph, find_platform("cpu"), threads=count
                )
            else:
                from dff_edge.runtime.engines.openvino import OpenVinoEngine  # an optional package

                data = bundle.graph_bytes(precision, graph)
                name = f"{precision} {graph}"
                engines[subnet] = OpenVinoEngine(data, name=name, threads=count)
    except BaseException:
        for opened in engines.values():
            opened.close()
        raise
    return Subnets(
        engines["feature"],
        engines["flow"],
        engines["task"],
        bundle.manifest.map_levels(precision),
    )
