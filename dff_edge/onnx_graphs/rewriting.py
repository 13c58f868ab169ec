"""The base of the passes over a graph: find, add and remove nodes by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnxruntime.quantization.onnx_model import ONNXModel  # type: ignore[import-untyped]


class Rewriter:
    """A copy of a model of static shapes while it is changed.

    Indices are of the state at the start: a pass sees the original nodes, not those that it adds.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self._model = onnx.shape_inference.infer_shapes(model, strict_mode=True)
        self._graph = self._model.graph
        self._makers = {name: node for node in self._graph.node for name in node.output}
        self._users: dict[str, list[onnx.NodeProto]] = {}
        for node in self._graph.node:
            for name in node.input:
                self._users.setdefault(name, []).append(node)
        self._tensors = {tensor.name: tensor for tensor in self._graph.initializer}
        values = (*self._graph.value_info, *self._graph.input, *self._graph.output)
        self._types = {value.name: value.type.tensor_type for value in values}

    def nodes(self, operator: str) -> list[onnx.NodeProto]:
        """Return the nodes of one operator, in order."""
        return [node for node in self._graph.node if node.op_type == operator]

    def maker(self, name: str) -> onnx.NodeProto | None:
        """Return the node that computes a value, None for inputs and stored tensors."""
        return self._makers.get(name)

    def users(self, name: str) -> list[onnx.NodeProto]:
        """Return the nodes that read a value."""
        return self._users.get(name, [])

    def is_read_by(self, name: str, node: onnx.NodeProto) -> bool:
        """Return whether a node alone reads a value, once, and it is not an output of the graph."""
        is_output = any(value.name == name for value in self._graph.output)
        return self.users(name) == [node] and not is_output

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a value."""
        if name in self._tensors:
            return tuple(self._tensors[name].dims)
        return tuple(dim.dim_value for dim in self._types[name].shape.dim)

    def element_type(self, name: str) -> int:
        """Return the ONNX element type of a value that is not a stored tensor."""
        number: int = self._types[name].elem_type
        return number

    def is_stored(self, name: str) -> bool:
        """Return whether a value is a stored tensor."""
        return name in self._tensors

    def values(self, name: str) -> NDArray[Any]:
        """Return the contents of a stored tensor."""
        array: NDArray[Any] = numpy_helper.to_array(self._tensors[name])
        return array

    def constant(self, name: str, array: NDArray[Any]) -> str:
        """Store a tensor; return its name."""
        self._graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def add(self, operator: str, inputs: list[str], name: str, **attributes: Any) -> str:
        """Add a node of one output; return the output's name, which is the node's."""
        node = helper.make_node(operator, inputs, [name], name, **attributes)
        self._graph.node.append(node)
        return name

    def remove(self, *nodes: onnx.NodeProto) -> None:
        """Remove nodes."""
        for node in nodes:
            self._graph.node.remove(node)

    def rename(self, name: str, wanted: str) -> None:
        """Rename the output of an added node to the name that the rest of the graph reads."""
        for node in self._graph.node:
            node.output[:] = [wanted if output == name else output for output in node.output]

    def finish(self) -> onnx.ModelProto:
        """Return the changed model, sorted, without unused tensors."""
        del self._graph.value_info[:]
        wrapped = ONNXModel(self._model)
        wrapped.clean_initializers()
        wrapped.topological_sort()
        return onnx.shape_inference.infer_shapes(wrapped.model, strict_mode=True)
