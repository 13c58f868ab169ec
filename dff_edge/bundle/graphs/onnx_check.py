"""Check an ONNX file before any native code parses it.

ONNX Runtime and TensorRT parse and compute in C++, where a hostile file can kill the process, use
all memory or never end. Only files that dff-edge's own export and calibration write are accepted:
complete and self-contained files (``onnx_reader``) of a list of operators with bounded attributes
(``onnx_operators``), whose shapes all follow from the inputs (``onnx_shapes``). So the cost of a
graph is known here, and bounded by the size of the frame.

These remain possible: a graph that is well-formed, within the bounds and slow, at most some
fifteen times as slow as the largest networks of this toolkit at that frame size; weights that
compute nonsense; and faults in the engines' kernels of these operators.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from dff_edge.bundle.graphs.byte_stream import ByteStream
from dff_edge.bundle.graphs.onnx_file import (
    LOCAL_DOMAIN,
    WARP_FUNCTION,
    WARP_PLUGIN,
    Function,
    Node,
    OnnxFile,
)
from dff_edge.bundle.graphs.onnx_operators import (
    OPERATORS,
    PLUGIN,
    Operator,
    check_node,
    kept_inputs,
)
from dff_edge.bundle.graphs.onnx_reader import MAX_NODES, read_onnx
from dff_edge.bundle.graphs.onnx_values import Value
from dff_edge.bundle.graphs.protobuf import WireError
from dff_edge.bundle.tensors import TensorSpec
from dff_edge.errors import BundleError
from dff_edge.names import Flavour
from dff_edge.printable import printable


@dataclass(frozen=True, slots=True)
class GraphSummary:
    """Properties of a checked ONNX file.

    Attributes:
        inputs: the graph's inputs by name, in order.
        outputs: the graph's outputs by name, in order.
        opset: version of the standard operator set.
        operators: number of nodes of each operator, those of functions included.
        dtypes: types of all values that are stored or computed.
        work: additions, products and comparisons of one run, at most.
        largest_bytes: of a value, or of the scratch memory of a kernel.
        all_bytes: of all values together. Engines use less, for most values follow each other in
            the same memory.
    """

    inputs: dict[str, TensorSpec]
    outputs: dict[str, TensorSpec]
    opset: int
    operators: Counter[str]
    dtypes: frozenset[np.dtype[Any]]
    work: int
    largest_bytes: int
    all_bytes: int


@dataclass(slots=True)
class CheckedGraph:
    """A file that has passed the checks.

    Attributes:
        file: its contents.
        summary: its properties.
        values: every value of the graph by name, of functions only their outputs.
    """

    file: OnnxFile
    summary: GraphSummary
    values: dict[str, Value]


def check_onnx(
    data: bytes, name: str, *, flavour: Flavour = "ort", plugin: bool = False
) -> CheckedGraph:
    """Call ``check_stream`` on bytes in memory."""
    return check_stream(
        ByteStream(io.BytesIO(data), len(data)), name, flavour=flavour, plugin=plugin
    )


def check_stream(
    stream: ByteStream,
    name: str,
    *,
    flavour: Flavour = "ort",
    plugin: bool = False,
    kept: Callable[[list[Node]], set[str]] = lambda nodes: set(),
) -> CheckedGraph:
    """Parse an ONNX file and raise unless it is complete, self-contained and bounded.

    Args:
        stream: the file, at its start.
        name: its name in messages, for example ``"int8/feature.onnx"``.
        flavour: of the graph.
        plugin: whether it may use TensorRT's plugin.
        kept: returns the names of the stored tensors whose numbers the caller needs.

    Raises:
        BundleError: truncated or damaged; operators, attributes or types that no graph of a bundle
            has; tensors in other files; shapes that do not fit or do not follow from the inputs;
            an operator set outside 17 to 19.
    """
    try:
        file = read_onnx(stream, lambda nodes: kept_inputs(nodes) | kept(nodes))
        walk = _Walk(flavour, plugin, file.functions)
        values = walk.graph(file)
    except WireError as error:
        raise BundleError(
            f"{name} {printable(error)}. Export or copy the bundle again; a file that is not made "
            "by dff-edge cannot be part of one."
        ) from error
    summary = GraphSummary(
        file.inputs,
        file.outputs,
        file.opset,
        walk.operators,
        frozenset(value.dtype for value in values.values()),
        walk.work,
        walk.largest_bytes,
        walk.all_bytes,
    )
    return CheckedGraph(file, summary, values)


@dataclass(slots=True)
class _Walk:
    """One pass over the nodes of a file, in order."""

    flavour: Flavour
    plugin: bool
    functions: dict[str, Function]
    operators: Counter[str] = field(default_factory=Counter)
    count: int = 0
    work: int = 0
    largest_bytes: int = 0
    all_bytes: int = 0

    def graph(self, file: OnnxFile) -> dict[str, Value]:
        if set(self.functions) - {WARP_FUNCTION} or (self.functions and self.flavour == "trt"):
            where = "in a graph for TensorRT" if self.flavour == "trt" else "beside it"
            raise WireError(
                f"has local functions {sorted(self.functions)}, expected at most "
                f"'{LOCAL_DOMAIN}::{WARP_FUNCTION}', and none {where}"
            )
        values: dict[str, Value] = {}
        for name, tensor in file.tensors.items():
            if 0 in tensor.shape:
                raise WireError(f"stores the tensor '{name}' of shape {tensor.shape}, of nothing")
            values[name] = Value(tensor.dtype, tensor.shape, True, tensor.values)
        for name, spec in file.inputs.items():
            self._add(values, name, Value(spec.dtype, spec.shape), "an input")
        self._nodes(file.nodes, values, depth=0)
        for name, spec in (*file.values.items(), *file.outputs.items()):
            found = values.get(name)
            if found is None or (found.dtype, found.shape) != (spec.dtype, spec.shape):
                told = found and f"computes {found.dtype.name} {found.shape} as it"
                raise WireError(f"declares the value {spec}, and {told or 'computes none'}")
        for name in file.outputs:
            if values[name].is_stored:
                raise WireError(f"has a stored tensor as its output '{name}'")
            if values[name].is_most:
                raise WireError(f"has rows of which there may be none as its output '{name}'")
        return values

    def _nodes(self, nodes: Sequence[Node], values: dict[str, Value], depth: int) -> None:
        for node in nodes:
            self.count += 1
            if self.count > MAX_NODES:
                raise WireError(f"computes more than {MAX_NODES} nodes")
            is_local = node.domain == LOCAL_DOMAIN
            self.operators[f"{LOCAL_DOMAIN}::{node.operator}" if is_local else node.operator] += 1
            is_call = is_local and node.operator in self.functions and depth == 0
            operator = None if is_call else self._operator(node, depth)
            inputs = []
            for name in node.inputs:
                value = values.get(name)
                if value is None:
                    raise WireError(
                        f"has {node} that reads '{name}', which nothing before it computes"
                    )
                inputs.append(value)
            made = (
                self._call(node, inputs) if operator is None else self._run(operator, node, inputs)
            )
            for name, value in zip(node.outputs, made, strict=True):
                self._add(values, name, value, str(node))

    def _operator(self, node: Node, depth: int) -> Operator:
        """Return the rules of a node's operator; raise where the node violates them."""
        operator = OPERATORS.get(node.operator) if node.domain == "" else None
        is_plugin = node.domain == LOCAL_DOMAIN and node.operator == WARP_PLUGIN
        if is_plugin and self.plugin and depth == 0:
            operator = PLUGIN
        if operator is None:
            whose = f"{node.domain}::" if node.domain else ""
            raise WireError(f"uses the operator '{whose}{node.operator}', which is not allowed")
        check_node(node, operator, self.flavour)
        return operator

    def _run(self, operator: Operator, node: Node, inputs: list[Value]) -> tuple[Value, ...]:
        if any(value.is_most for value in inputs) and not operator.rows:
            raise WireError(f"has {node} that reads rows of which there may be none")
        try:
            outcome = operator.rule(node, inputs)
        except WireError as error:
            raise WireError(f"has {node}, {error}") from error
        self.work += outcome.work
        self.largest_bytes = max(self.largest_bytes, outcome.scratch_bytes)
        return outcome.outputs

    def _call(self, node: Node, arguments: list[Value]) -> tuple[Value, ...]:
        """Compute the shapes in a function, which calls no other."""
        function = self.functions[node.operator]
        fits = len(arguments) == len(function.inputs) and len(node.outputs) == len(function.outputs)
        if node.attributes or not fits:
            raise WireError(f"has {node} that does not fit the function of its name")
        values: dict[str, Value] = {}
        for name, value in zip(function.inputs, arguments, strict=True):
            self._add(values, name, value, "the function")
        self._nodes(function.nodes, values, depth=1)
        if any(name not in values for name in function.outputs):
            raise WireError(f"has {node} whose function does not compute its outputs")
        return tuple(values[name] for name in function.outputs)

    def _add(self, values: dict[str, Value], name: str, value: Value, maker: str) -> None:
        if not name or name in values:
            raise WireError(f"has {maker} that defines '{name}', a name that is taken or empty")
        size = value.bytes
        if size == 0:  # which kernels read nevertheless
            raise WireError(f"has {maker} that defines '{name}' of shape {value.shape}, of nothing")
        values[name] = value
        self.all_bytes += size
        self.largest_bytes = max(self.largest_bytes, size)


# Limits of one graph: a base, an addition for each pixel of the frame, and a maximum. A
# ResNet-101 in FP32 has 576 bytes in one value, 3,607 in all and 272,000 steps a pixel
# (benchmarks/graph_costs.py); in INT8 twice as many bytes in all; with twice the width, twice the
# bytes and four times the steps.
_LIMITS: Final = {
    "largest_bytes": (1 << 27, 1 << 11, 1 << 31),
    "all_bytes": (1 << 28, 1 << 14, 1 << 35),
    "work": (1 << 31, 1 << 22, 1 << 43),
}
_WORDS: Final = {
    "largest_bytes": "bytes in one value",
    "all_bytes": "bytes in all its values",
    "work": "steps of work",
}


def cost_limits(pixels: int) -> dict[str, int]:
    """Return the limits of a graph's costs, by attribute of its summary.

    Args:
        pixels: H x W of the network's frames.
    """
    return {name: min(a + b * pixels, most) for name, (a, b, most) in _LIMITS.items()}


def cost_problem(summary: GraphSummary, pixels: int) -> str | None:
    """Describe which cost of a graph is excessive; None if none is.

    Args:
        summary: of the graph.
        pixels: H x W of the network's frames.
    """
    for name, most in cost_limits(pixels).items():
        found = getattr(summary, name)
        if found > most:
            return (
                f"needs {found} {_WORDS[name]}, expected at most {most} for a frame of {pixels} "
                "pixels"
            )
    return None
