"""Options of opening engines: threads of the CPU, and the use of a GPU."""

from __future__ import annotations

from dataclasses import dataclass, field

from dff_edge.names import DriverName


@dataclass(frozen=True, slots=True)
class CudaOptions:
    """Options of running on a GPU.

    Attributes:
        driver: the package for the CUDA driver; None uses cuda-python where it is installed, else
            pycuda.
        ordinal: number of the GPU.
        graphs: whether engines are replayed as CUDA graphs; None measures which is faster, where
            both the driver and the engine support them.
        plugin: with TensorRT, whether warp and task network are the engine that calls the plugin,
            or the portable one of TensorRT's own layers.
    """

    driver: DriverName | None = None
    ordinal: int = 0
    graphs: bool | None = None
    plugin: bool = True


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """Options of opening a bundle's engines.

    Attributes:
        threads: on the CPU, of the feature network; None means all cores of this process.
        flow_threads: of the flow network; None means the same number.
        cuda: options of running on a GPU.
    """

    threads: int | None = None
    flow_threads: int | None = None
    cuda: CudaOptions = field(default_factory=CudaOptions)
