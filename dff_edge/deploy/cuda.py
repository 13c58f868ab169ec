"""Graphs optimised ahead for ONNX Runtime's CUDA provider."""

from __future__ import annotations

import os
from typing import Any

from dff_edge.bundle.contract import GraphContract
from dff_edge.deploy.cpu import optimise
from dff_edge.deploy.target import Built
from dff_edge.errors import MissingDependencyError
from dff_edge.names import GraphName, Precision
from dff_edge.runtime.devices.cuda.kernels import LIBRARY_VARIABLE, library_path
from dff_edge.runtime.engines.deployed import Platform
from dff_edge.runtime.engines.onnxruntime import CUDA_PROVIDER
from dff_edge.runtime.engines.onnxruntime_cuda import load_onnxruntime, refuse_integers


class CudaTarget:
    """A GPU with ONNX Runtime. The warp is the device's own kernel where that was built.

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
                raise  # a library that is named must be there
            self.graphs = (*self.graphs, "propagate")  # warp and task network in one

    def refusal(self, precision: Precision) -> str | None:
        """Why a precision is not taken."""
        if precision != "int8":
            return None
        return (
            "ONNX Runtime's CUDA provider has no integer convolution; take fp16, or "
            "--target tensorrt"
        )

    def build(self, graph: bytes, *, name: str, kind: GraphName, contract: GraphContract) -> Built:
        """Optimise a graph. See ``Target.build``."""
        refuse_integers(graph, name)
        load_onnxruntime(f"Optimising the {name} graph")
        options = {"device_id": str(self.device.ordinal), "use_tf32": "0"}
        return optimise(graph, name=name, provider=CUDA_PROVIDER, provider_options=options)
