"""How engines are opened: threads of the CPU, and how a GPU is used."""

from __future__ import annotations

from dataclasses import dataclass, field

from dff_edge.names import DriverName


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

    driver: DriverName | None = None
    ordinal: int = 0
    graphs: bool | None = None
    plugin: bool = True


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How a bundle's engines are opened.

    Attributes:
        threads: on the CPU, of the feature network; None means all cores of this process.
        flow_threads: of the flow network; None means as many.
        cuda: how a GPU is used.
    """

    threads: int | None = None
    flow_threads: int | None = None
    cuda: CudaOptions = field(default_factory=CudaOptions)
