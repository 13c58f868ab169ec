"""Graphs optimised ahead for ONNX Runtime's CUDA provider."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dff_edge.bundle.contract import GraphContract
from dff_edge.deploy.cpu import optimise
from dff_edge.deploy.target import BuildOptions, Built
from dff_edge.errors import MissingDependencyError
from dff_edge.names import GraphName
from dff_edge.runtime.devices.cuda.device import open_device
from dff_edge.runtime.devices.cuda.kernels import LIBRARY_VARIABLE, library_path
from dff_edge.runtime.engines.deployed import Platform
from dff_edge.runtime.engines.onnxruntime import CUDA_PROVIDER
from dff_edge.runtime.engines.onnxruntime_cuda import (
    check_provider_available,
    cuda_platform,
    load_onnxruntime,
    refuse_integers,
)


class CudaTarget:
    """A GPU with ONNX Runtime. The warp is the device's own kernel if that was built.

    Args:
        platform: of this machine, target "cuda".
    """

    def __init__(self, platform: Platform) -> None:
        assert platform.hardware is not None
        self.platform = platform
        self.device = platform.hardware
        self.options: dict[str, Any] = {}
        self.graphs: tuple[GraphName, ...] = ("feature", "flow", "task")
        try:
            library_path()
        except MissingDependencyError:
            if os.environ.get(LIBRARY_VARIABLE):
                raise  # a named library must exist
            self.graphs = (*self.graphs, "propagate")  # warp and task network in one

    def build(self, graph: bytes, *, name: str, kind: GraphName, contract: GraphContract) -> Built:
        """Optimise a graph. See ``Target.build``."""
        refuse_integers(graph, name)
        load_onnxruntime(f"Optimising the {name} graph")
        options = {"device_id": str(self.device.ordinal), "use_tf32": "0"}
        return optimise(graph, name=name, provider=CUDA_PROVIDER, provider_options=options)


@contextmanager
def open_target(options: BuildOptions) -> Iterator[CudaTarget]:
    """Open a GPU with ONNX Runtime as a target. See ``deploy.open``."""
    options.refuse_those_of_tensorrt("cuda")
    check_provider_available()
    device = open_device()
    try:
        yield CudaTarget(cuda_platform(device))
    finally:
        device.close()
