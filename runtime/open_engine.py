"""Which engine computes a graph on the CPU."""

from __future__ import annotations

from typing import Literal, get_args

from dff_edge.runtime.engine import Engine, OrtEngine
from dff_edge.runtime.errors import ConfigError

CpuEngineName = Literal["onnxruntime", "openvino"]
CPU_ENGINES: tuple[CpuEngineName, ...] = get_args(CpuEngineName)


def open_engine(
    engine: CpuEngineName, graph_bytes: bytes, *, name: str, threads: int | None = None
) -> Engine:
    """Load a graph.

    Args:
        engine: "onnxruntime" or "openvino".
        graph_bytes: the ONNX file's bytes, verified (``Bundle.graph_bytes``).
        name: what messages call the graph, for example ``"int8 feature"``.
        threads: threads of one run; ``None`` means the cores this process may use.

    Raises:
        ConfigError: for another engine.
        MissingDependencyError: when the engine is not installed.
        EngineError: when the graph could not be loaded.
    """
    if engine == "onnxruntime":
        return OrtEngine(graph_bytes, name=name, threads=threads)
    if engine == "openvino":
        from dff_edge.runtime.openvino_engine import OpenVinoEngine  # an optional package

        return OpenVinoEngine(graph_bytes, name=name, threads=threads)
    raise ConfigError(f"engine is '{engine}', expected one of {', '.join(CPU_ENGINES)}.")
