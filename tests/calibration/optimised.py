"""Graphs as ONNX Runtime optimises them before it runs them."""

from __future__ import annotations

from collections import Counter

import onnx
import onnxruntime as ort

from dff_edge.runtime.engines.onnxruntime import session_options


def optimised_operators(graph: bytes, folder) -> Counter:
    """Count the operators of a graph after all optimisations."""
    path = folder / "optimised.onnx"
    options = session_options(ort)
    options.optimized_model_filepath = str(path)
    ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(path).graph.node)
