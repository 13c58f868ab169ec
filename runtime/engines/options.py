"""How a GPU is used by the engines on it."""

from __future__ import annotations

from dataclasses import dataclass

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
