"""Check that TensorRT computes a graph as it is written.

TensorRT quantises to int8 around zero. Its parser reads uint8 as int8 with no more than a
warning where the zero point is 0, which clips the upper half of all values: the graph builds and
is wrong. So graphs with any other quantisation are refused. ``onnx_check`` has already excluded
functions, operators of ONNX Runtime alone and two values of one name.

The parser's behaviour was seen with TensorRT for RTX 1.7.1: see tests/deploy/test_rtx_build.py.
"""

from __future__ import annotations

from dff_edge.bundle.graphs.onnx_check import CheckedGraph
from dff_edge.bundle.graphs.onnx_values import FLOAT, INT8
from dff_edge.errors import BundleError
from dff_edge.printable import printable

_CONVERSIONS = ("QuantizeLinear", "DequantizeLinear")


def check_for_tensorrt(graph: CheckedGraph, name: str) -> None:
    """Raise for a graph that TensorRT would misread.

    Args:
        graph: a graph for TensorRT.
        name: its name in messages.

    Raises:
        BundleError: a QuantizeLinear or DequantizeLinear whose zero points are not int8 zeros, or
            which reads other stored bytes. The message names the node.
    """
    for node in graph.file.nodes:
        if node.operator not in _CONVERSIONS:
            continue
        data, zero = (graph.values[node.inputs[at]] for at in (0, 2))
        problem = None
        if zero.dtype != INT8 or zero.values is None or zero.values.any():
            problem = "is not symmetric int8, expected a stored int8 zero point of 0"
        elif data.is_stored and data.dtype not in (FLOAT, INT8):
            problem = "reads stored bytes which are not int8"
        if problem:
            raise BundleError(
                f"{name} has {printable(node)} that {problem}. TensorRT would compute something "
                "else; calibrate the bundle again with `dff-edge calibrate --flavour trt`."
            )
