"""Put pairs of QuantizeLinear and DequantizeLinear into a graph: int8 around zero."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from dff_edge.bundle.levels import MIN_STEP

LARGEST = 127  # -128 is left out: the range is the same on both sides of zero


class Pairs:
    """A model to which pairs are added in place; ``finish`` returns it.

    Args:
        model: float32, its nodes in order.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self._model = model
        self._graph = model.graph
        self._tensors = {tensor.name: tensor for tensor in self._graph.initializer}
        self._weights: list[onnx.NodeProto] = []
        # Nodes to be inserted behind the producer of a value, by the value.
        self._behind: dict[str, list[onnx.NodeProto]] = {}

    def store_weight(
        self, node: onnx.NodeProto, axis: int | None, least: NDArray[np.float64] | float = 0.0
    ) -> None:
        """Store the weight of a convolution as int8, with a step for each channel of an axis.

        Convolutions may share a weight; it is stored once.

        Args:
            node: the convolution.
            axis: of the weight; None for one step in all.
            least: minimum of the steps, for each channel of the axis or for all; 0 for none.
        """
        name = node.input[1]
        prefix = f"{name}/whole" if axis is None else f"{name}/axis{axis}"
        node.input[1] = f"{prefix}/quantised"
        if any(node.input[1] in stored.output for stored in self._weights):
            return
        weight = numpy_helper.to_array(self._tensors[name]).astype(np.float64)
        others = tuple(set(range(weight.ndim)) - {axis})
        steps = np.abs(weight).max(axis=others, keepdims=True) / LARGEST
        along = [-1 if dimension == axis else 1 for dimension in range(weight.ndim)]
        steps = np.maximum(steps, np.reshape(least, along))
        steps[steps < 2 * MIN_STEP] = 1.0  # any step will do for a channel of zeros
        steps = steps.astype(np.float32)
        bytes_ = np.rint(weight / steps).clip(-LARGEST, LARGEST).astype(np.int8)
        stored = steps.reshape(() if axis is None else -1)
        inputs = [
            self._store(f"{prefix}/int8", bytes_),
            self._store(f"{prefix}/step", stored),
            self._store(f"{prefix}/zero", np.zeros(stored.shape, np.int8)),
        ]
        made = node.input[1]
        # make_node leaves out axis=None.
        self._weights.append(helper.make_node("DequantizeLinear", inputs, [made], made, axis=axis))

    def add(self, name: str, step: float, readers: Collection[onnx.NodeProto]) -> None:
        """Make some of the nodes that read a value read it rounded to int8."""
        levels = self._levels(name, step)
        bytes_, rounded = f"{name}/int8", f"{name}/quantised"
        self._behind.setdefault(name, []).extend(
            [
                helper.make_node("QuantizeLinear", [name, *levels], [bytes_], bytes_),
                helper.make_node("DequantizeLinear", [bytes_, *levels], [rounded], rounded),
            ]
        )
        for node in readers:
            node.input[:] = [rounded if read == name else read for read in node.input]

    def cut(self, name: str, step: float) -> None:
        """Make an input or output of the graph int8, if it has one of this name."""
        for values, operator in (
            (self._graph.input, "DequantizeLinear"),
            (self._graph.output, "QuantizeLinear"),
        ):
            for value in values:
                if value.name != name:
                    continue
                inside = f"{name}/float"
                levels = self._levels(name, step)
                self._rename(name, inside)
                ends = (name, inside) if operator == "DequantizeLinear" else (inside, name)
                node = helper.make_node(operator, [ends[0], *levels], [ends[1]], f"{name}/border")
                self._behind.setdefault(ends[0], []).insert(0, node)
                value.type.tensor_type.elem_type = TensorProto.INT8

    def finish(self) -> onnx.ModelProto:
        """Return the model, its nodes in order, without unused tensors."""
        nodes = list(self._weights)
        for value in self._graph.input:
            nodes += self._after(value.name)
        for node in self._graph.node:
            nodes.append(node)
            for name in node.output:
                nodes += self._after(name)
        del self._graph.node[:]
        self._graph.node.extend(nodes)
        read = {name for node in self._graph.node for name in node.input}
        kept = [tensor for tensor in self._graph.initializer if tensor.name in read]
        del self._graph.initializer[:]
        self._graph.initializer.extend(kept)
        return self._model

    def _after(self, name: str) -> list[onnx.NodeProto]:
        nodes: list[onnx.NodeProto] = []
        for node in self._behind.get(name, []):
            nodes.append(node)
            for output in node.output:
                nodes += self._after(output)
        return nodes

    def _rename(self, name: str, wanted: str) -> None:
        """Rename a value for the node that computes it, if any, and all that read it."""
        added = [node for nodes in self._behind.values() for node in nodes]
        for node in (*self._graph.node, *added):
            node.input[:] = [wanted if read == name else read for read in node.input]
            node.output[:] = [wanted if made == name else made for made in node.output]

    def _levels(self, name: str, step: float) -> list[str]:
        names = [f"{name}/step", f"{name}/zero"]
        if names[0] not in self._tensors:
            self._store(names[0], np.float32(step))
            self._store(names[1], np.int8(0))
        return names

    def _store(self, name: str, array: Any) -> str:
        tensor = numpy_helper.from_array(np.asarray(array), name)
        self._tensors[name] = tensor
        self._graph.initializer.append(tensor)
        return name
