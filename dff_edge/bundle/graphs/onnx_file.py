"""Contents of an ONNX file as plain records: nodes, stored tensors, values.

``onnx_reader`` creates them from a file's bytes; nothing in them is computed or trusted.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from dff_edge.bundle.tensors import TensorSpec

OPSETS = range(17, 20)
LOCAL_DOMAIN = "dff"
WARP_FUNCTION = "Warp"  # warp and scale in standard operators, as a local function
WARP_PLUGIN = "DffWarp"  # the same as an operator of TensorRT's plugin

Attribute: TypeAlias = "int | float | bytes | tuple[int, ...] | Tensor"


@dataclass(slots=True, eq=False)
class Tensor:
    """A stored tensor.

    Attributes:
        name: empty where it is an attribute without one.
        dtype, shape: of its values.
        values: its numbers, read-only; None where they were skipped.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    values: NDArray[Any] | None


class Node(NamedTuple):
    """A node, as written: its operator is not checked yet."""

    operator: str
    domain: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Attribute]

    def __str__(self) -> str:
        return f"the {self.operator} node '{self.name or ', '.join(self.outputs)}'"


@dataclass(slots=True)
class Function:
    """A local function of the domain "dff"."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: list[Node]


@dataclass(slots=True)
class OnnxFile:
    """Contents of a file.

    Attributes:
        nodes: of the graph, in order.
        tensors: stored ones, by name.
        inputs, outputs: of the graph, by name, in order.
        values: stated types and shapes of other values.
        opset: version of the standard operators.
        functions: local ones, by name.
    """

    nodes: list[Node] = field(default_factory=list)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    inputs: dict[str, TensorSpec] = field(default_factory=dict)
    outputs: dict[str, TensorSpec] = field(default_factory=dict)
    values: dict[str, TensorSpec] = field(default_factory=dict)
    opset: int = 0
    functions: dict[str, Function] = field(default_factory=dict)
