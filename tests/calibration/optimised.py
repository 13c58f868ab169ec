"""Graphs as ONNX Runtime optimises them before it runs them."""

from __future__ import annotations

from collections import Counter

import onnx
import onnxruntime as ort


def optimised_operators(graph: bytes, folder) -> Counter:
    """Count the operators of a graph after all optimisations."""
    path = folder / "optimised.onnx"
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 3
    ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(path).graph.node)
