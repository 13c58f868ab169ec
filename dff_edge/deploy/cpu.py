"""Graphs optimised ahead for ONNX Runtime on the CPU, so that each start is faster.

The gain is small, since most of a start is the packing of weights: about a twentieth for
ResNet-101, more than half for a small INT8 flow network. The main benefit is that the graphs are
checked and measured on the machine that they will run on.

Optimised at ORT_ENABLE_EXTENDED: the layouts of the level above fit one instruction set only, and
are chosen when the graph is opened.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dff_edge.bundle.contract import GraphContract
from dff_edge.deploy.target import BuildOptions, Built
from dff_edge.errors import EngineError, require, words_of
from dff_edge.names import GraphName
from dff_edge.runtime.devices.cpu import CpuDevice
from dff_edge.runtime.engines.base import usable_cores
from dff_edge.runtime.engines.deployed import Platform
from dff_edge.runtime.engines.float_mode import kept_float_mode
from dff_edge.runtime.engines.onnxruntime import CPU_PROVIDER, check_provider, session_options
from dff_edge.runtime.engines.open_cpu import cpu_platform


class CpuTarget:
    """The CPU.

    Args:
        platform: of this machine, target "cpu".
    """

    graphs: tuple[GraphName, ...] = ("feature", "flow", "task")

    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        self.device = CpuDevice(usable_cores())
        self.options: dict[str, Any] = {}

    def build(self, graph: bytes, *, name: str, kind: GraphName, contract: GraphContract) -> Built:
        """Optimise a graph. See ``Target.build``."""
        return optimise(graph, name=name, provider=CPU_PROVIDER)


@contextmanager
def open_target(options: BuildOptions) -> Iterator[CpuTarget]:
    """Open the CPU as a target. See ``deploy.open``."""
    options.refuse_those_of_tensorrt("cpu")
    yield CpuTarget(cpu_platform())


def optimise(
    graph: bytes, *, name: str, provider: str, provider_options: Mapping[str, str] | None = None
) -> Built:
    """Optimise a graph for a provider by ONNX Runtime, and return it as a file's bytes.

    Raises:
        EngineError: when it does not load, or the provider did not accept it.
    """
    ort = require("onnxruntime", extra="cpu", purpose=f"Optimising the {name} graph")
    options = session_options(ort)
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "optimised.onnx"
        options.optimized_model_filepath = str(path)
        asked = (provider, dict(provider_options or {}))
        try:
            with kept_float_mode():
                session = ort.InferenceSession(graph, sess_options=options, providers=[asked])
            data = path.read_bytes()
        except Exception as error:  # pybind raises one class for each native status
            raise EngineError(
                f"ONNX Runtime {ort.__version__} could not optimise the {name} graph for "
                f"{provider}: {words_of(error)}"
            ) from error
    check_provider(session, provider, name)  # another's graph has other types and operators
    return Built(data)
