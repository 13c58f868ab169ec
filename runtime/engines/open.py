"""The engines of a bundle and the device they run on, by the name of what computes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal, cast, get_args

from dff_edge.bundle.contract import Flavour, Precision, Subnet
from dff_edge.bundle.reader import Bundle
from dff_edge.errors import ConfigError
from dff_edge.runtime.devices.base import Device
from dff_edge.runtime.devices.cpu import CpuDevice
from dff_edge.runtime.devices.niceness import call_at_lower_priority
from dff_edge.runtime.engines.base import Engine, usable_cores
from dff_edge.runtime.engines.deployed import find_platform, open_optimised
from dff_edge.runtime.engines.hand_crafted_flow import open_flow
from dff_edge.runtime.engines.subnets import Subnets

CpuEngineName = Literal["onnxruntime", "openvino"]
EngineName = Literal["onnxruntime", "openvino", "cuda", "tensorrt"]
ENGINES: tuple[EngineName, ...] = get_args(EngineName)


@dataclass(frozen=True, slots=True)
class CudaOptions:
    """How a GPU is used.

    Attributes:
        driver: the package that speaks to it; None takes cuda-python where it is installed, else
            pycuda.
        ordinal: number of the GPU.
        graphs: whether engines are replayed as CUDA graphs; None has it measured where both the
            driver and the engine can.
        plugin: with TensorRT, whether warp and task network are the engine that calls the plugin,
            or the portable one of TensorRT's own layers.
    """

    driver: Literal["cuda-python", "pycuda"] | None = None
    ordinal: int = 0
    graphs: bool | None = None
    plugin: bool = True


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
    background: bool = False,
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
        background: whether the feature network computes beside the answers to other frames, and
            steps back for them: on the CPU its threads have a lower priority.

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

        options = cuda or CudaOptions()
        return Opened(*open_on_cuda(bundle, precision, engine, options, background=background))
    if engine not in ENGINES:
        raise ConfigError(f"engine is '{engine}', expected one of {', '.join(ENGINES)}.")
    threads = threads or usable_cores()
    # The task network is one small matrix product, whose threads would mostly wake each other.
    counts: dict[Subnet, int] = {"feature": threads, "flow": flow_threads or threads, "task": 1}
    subnets = _open_on_cpu(bundle, precision, engine, counts, background=background)
    return Opened(CpuDevice(threads), subnets)


def _open_on_cpu(
    bundle: Bundle,
    precision: Precision,
    engine: CpuEngineName,
    threads: dict[Subnet, int],
    *,
    background: bool,
) -> Subnets:
    engines: dict[Subnet, Engine] = {}
    try:
        for subnet, count in threads.items():
            open_one = partial(_open_one, bundle, precision, engine, subnet, count)
            is_later = background and subnet == "feature"
            engines[subnet] = call_at_lower_priority(open_one) if is_later else open_one()
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


def open_in_background(
    bundle: Bundle, precision: Precision, engine: EngineName, threads: int
) -> Engine:
    """Open another feature network on the CPU, as ``open_subnets`` does in the background.

    Raises:
        EngineError: the graph cannot be loaded.
    """
    assert engine in get_args(CpuEngineName)
    cpu_engine = cast(CpuEngineName, engine)
    return call_at_lower_priority(
        partial(_open_one, bundle, precision, cpu_engine, "feature", threads)
    )


def _open_one(
    bundle: Bundle, precision: Precision, engine: CpuEngineName, subnet: Subnet, threads: int
) -> Engine:
    graph = bundle.manifest.task_graph() if subnet == "task" else subnet
    if subnet == "flow" and bundle.manifest.flow_function != "network":
        return open_flow(bundle, precision, threads=threads)
    if engine == "onnxruntime":
        return open_optimised(bundle, precision, graph, find_platform("cpu"), threads=threads)
    from dff_edge.runtime.engines.openvino import OpenVinoEngine  # an optional package

    data = bundle.graph_bytes(precision, graph)
    return OpenVinoEngine(data, name=f"{precision} {graph}", threads=threads)
