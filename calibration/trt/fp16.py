"""FP16 for TensorRT: half-precision weights, arithmetic and maps, written as types of the graph.

TensorRT 11 has no flags for precision: it computes in the types of the graph. Float32 stay:

- the operations on the frames before the first convolution, whose values are up to 255;
- the convolution that computes the flow, which costs nothing, and the scores at the output;
- coordinates and sampling of the portable warp (``propagate``).
"""

from __future__ import annotations

from itertools import chain

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from dff_edge.calibration.ort.int8 import flow_nodes
from dff_edge.errors import CalibrationError
from dff_edge.onnx_graphs.tidy import finish

_LARGEST_HALF = float(np.finfo(np.float16).max)
_HALF_BORDERS = ("features", "scale")
_FRAME_OPERATORS = ("Cast", "Concat", "Reshape", "Sub", "Transpose")


def to_half(graph: bytes) -> bytes:
    """Convert one fp32 graph for TensorRT.

    Args:
        graph: an ONNX file as ``export_bundle`` writes it, without the warp.

    Returns:
        The ONNX file with inputs and outputs of the same names and shapes, features and scale
        field being float16.

    Raises:
        CalibrationError: a weight that float16 cannot hold.
    """
    model = onnx.shape_inference.infer_shapes(onnx.load_from_string(graph), strict_mode=True)
    return finish(_Halves(model).convert())


class _Halves:
    """A model whose values are converted to half precision or kept."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._graph, self._model = model.graph, model
        values = chain(model.graph.input, model.graph.output, model.graph.value_info)
        self._types = {value.name: value.type.tensor_type.elem_type for value in values}
        self._tensors = {tensor.name: tensor for tensor in model.graph.initializer}
        self._types |= {name: tensor.data_type for name, tensor in self._tensors.items()}
        self._nodes: list[onnx.NodeProto] = []

    def convert(self) -> onnx.ModelProto:
        kept = self._kept()
        for value in self._graph.input:
            if value.name in _HALF_BORDERS:
                self._set_type(value, TensorProto.FLOAT16)
        for node in list(self._graph.node):
            wanted = TensorProto.FLOAT if node.name in kept else TensorProto.FLOAT16
            node.input[:] = [self._as(name, wanted) for name in node.input]
            self._nodes.append(node)
            for name in node.output:
                if self._types[name] == TensorProto.FLOAT:
                    self._types[name] = wanted
        for value in self._graph.output:
            self._fit_output(value)
        del self._graph.node[:]
        self._graph.node.extend(self._nodes)
        read = {name for node in self._nodes for name in node.input}
        stored = [tensor for tensor in self._tensors.values() if tensor.name in read]
        del self._graph.initializer[:], self._graph.value_info[:]
        self._graph.initializer.extend(stored)
        return self._model

    def _kept(self) -> set[str]:
        """Return the names of the nodes that stay float32."""
        frames = {v.name for v in self._graph.input if self._types[v.name] == TensorProto.UINT8}
        names = set()
        for node in self._graph.node:  # sorted
            computed = [name for name in node.input if name not in self._tensors]
            if node.op_type in _FRAME_OPERATORS and computed and frames.issuperset(computed):
                frames.update(node.output)
                names.add(node.name)
        return names | set(flow_nodes(self._model))

    def _as(self, name: str, wanted: int) -> str:
        """Return the name of a value as a float type; other types are kept."""
        held = self._types.get(name)
        if held not in (TensorProto.FLOAT, TensorProto.FLOAT16) or held == wanted:
            return name
        other = f"{name}/{'half' if wanted == TensorProto.FLOAT16 else 'float'}"
        if other in self._types:
            return other
        self._types[other] = wanted
        if name in self._tensors:
            self._tensors[other] = numpy_helper.from_array(self._halved(name), other)
        else:
            self._nodes.append(helper.make_node("Cast", [name], [other], other, to=wanted))
        return other

    def _halved(self, name: str) -> np.ndarray:  # type: ignore[type-arg]
        values = numpy_helper.to_array(self._tensors[name])
        largest = float(np.abs(values).max(initial=0))
        if not largest <= _LARGEST_HALF:  # negated: NaN fails
            raise CalibrationError(
                f"The weight '{name}' holds {largest:.3g}, expected at most "
                f"{_LARGEST_HALF:.0f}: float16 cannot hold it. Was the training broken off by an "
                "overflow? `dff-edge calibrate --precision int8` makes int8 alone."
            )
        return values.astype(np.float16)

    def _fit_output(self, value: onnx.ValueInfoProto) -> None:
        """Cast an output to its contract's type."""
        wanted = TensorProto.FLOAT16 if value.name in _HALF_BORDERS else TensorProto.FLOAT
        if self._types[value.name] != wanted:
            inside = f"{value.name}/inside"
            for node in self._nodes:
                node.input[:] = [inside if name == value.name else name for name in node.input]
                node.output[:] = [inside if name == value.name else name for name in node.output]
            self._nodes.append(
                helper.make_node("Cast", [inside], [value.name], f"{value.name}/border", to=wanted)
            )
        self._set_type(value, wanted)

    def _set_type(self, value: onnx.ValueInfoProto, element_type: int) -> None:
        value.type.tensor_type.elem_type = element_type
        self._types[value.name] = element_type
