"""FP16 as types of the graph: half-precision weights and arithmetic, the same inputs and outputs.

Frames stay uint8 and the maps between the subnets stay float32, so that an fp16 graph replaces an
fp32 one and the warp keeps its coordinates in float32.
ONNX Runtime runs such a graph in half precision on a GPU; on a CPU it computes in float32 between
casts, so there it shows the accuracy, not the speed. TensorRT has graphs of its own (``half``).
"""

from __future__ import annotations

import onnx
from onnxruntime.quantization.onnx_model import ONNXModel  # type: ignore[import-untyped]
from onnxruntime.transformers.float16 import convert_float_to_float16  # type: ignore[import-untyped]

from dff_edge.onnx_graphs.tidy import finish


def to_fp16(graph: bytes) -> bytes:
    """Convert one fp32 graph.

    Args:
        graph: an ONNX file as ``export_bundle`` writes it, without the warp.
    """
    model = onnx.load_from_string(graph)
    converted = ONNXModel(convert_float_to_float16(model, keep_io_types=True))
    converted.topological_sort()  # the casts of the inputs are last
    return finish(converted.model)
