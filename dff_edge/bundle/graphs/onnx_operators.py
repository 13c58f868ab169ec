"""The operators allowed in a bundle's graphs: those that export and calibration write.

``tests/onnx_graphs/test_operators.py`` derives the list from them, so that an operator that is no
longer written must be removed. There is no control flow, no operator that makes large outputs of
small inputs (Expand, Tile, ConstantOfShape, Resize, NonZero), and none that reads files.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from dff_edge.bundle.graphs import onnx_shapes as shapes
from dff_edge.bundle.graphs import onnx_windows as windows
from dff_edge.bundle.graphs.onnx_file import Attribute, Node, Tensor
from dff_edge.bundle.graphs.onnx_values import Outcome, Value
from dff_edge.bundle.graphs.protobuf import WireError
from dff_edge.names import Flavour

Rule = Callable[[Node, Sequence[Value]], Outcome]
Check = Callable[[Attribute], bool]

LARGEST_SIDE = 1 << 16


def _one_of(*values: Attribute) -> Check:
    return lambda value: any(type(value) is type(own) and value == own for own in values)


def _within(low: int, high: int) -> Check:
    return lambda value: isinstance(value, int) and low <= value <= high


def _all_within(low: int, high: int, *counts: int) -> Check:
    return lambda value: (
        isinstance(value, tuple)
        and len(value) in counts
        and all(low <= number <= high for number in value)
    )


def _finite(value: Attribute) -> bool:
    return isinstance(value, float) and math.isfinite(value)


def _positive(value: Attribute) -> bool:
    return _finite(value) and isinstance(value, float) and value > 0


def _is_tensor(value: Attribute) -> bool:
    return isinstance(value, Tensor)


_AXIS = {"axis": _within(-6, 5)}
_PLAIN = {"auto_pad": _one_of(b"NOTSET")}
_WINDOW = {
    **_PLAIN,
    "kernel_shape": _all_within(1, LARGEST_SIDE, 2),
    "strides": _all_within(1, LARGEST_SIDE, 2),
    "pads": _all_within(0, LARGEST_SIDE, 4),
}
_CONVOLUTION = {
    **_WINDOW,
    "dilations": _all_within(1, LARGEST_SIDE, 2),
    "group": _within(1, LARGEST_SIDE),
}


@dataclass(frozen=True, slots=True)
class Operator:
    """Rules for the nodes of an operator.

    Attributes:
        rule: its shapes and costs.
        inputs: allowed numbers of inputs; none may be left out.
        attributes: test of each allowed one; others are refused.
        required: attributes that must be there.
        outputs: number of outputs.
        kept: the inputs whose stored numbers the rule reads.
        tensorrt: whether graphs for TensorRT may use it.
        rows: whether it may read a tensor with fewer rows than its shape states.
    """

    rule: Rule
    inputs: tuple[int, ...]
    attributes: Mapping[str, Check] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    outputs: int = 1
    kept: tuple[int, ...] = ()
    tensorrt: bool = True
    rows: bool = False


OPERATORS: Final[Mapping[str, Operator]] = {
    "Abs": Operator(shapes.float_map, (1,)),
    "Add": Operator(shapes.arithmetic, (2,)),
    "And": Operator(shapes.both, (2,), tensorrt=False),
    "AveragePool": Operator(
        windows.pool,
        (1,),
        {
            **_WINDOW,
            "ceil_mode": _one_of(0),
            "count_include_pad": _one_of(0, 1),
            "dilations": _one_of((1, 1)),
        },
        ("kernel_shape",),
    ),
    "Cast": Operator(
        shapes.cast, (1,), {"to": _one_of(*shapes.CAST_TYPES), "saturate": _one_of(1)}, ("to",)
    ),
    "Clip": Operator(shapes.clip, (2, 3)),
    "Concat": Operator(shapes.concat, tuple(range(1, 17)), _AXIS, ("axis",)),
    "Constant": Operator(shapes.constant, (0,), {"value": _is_tensor}, ("value",)),
    "Conv": Operator(windows.convolve, (2, 3), _CONVOLUTION),
    "ConvTranspose": Operator(
        windows.convolve_back, (2, 3), {**_CONVOLUTION, "output_padding": _all_within(0, 16, 2)}
    ),
    "DequantizeLinear": Operator(shapes.dequantize, (3,), _AXIS, kept=(1, 2)),
    "Div": Operator(shapes.arithmetic, (2,), kept=(1,), tensorrt=False),
    "Exp": Operator(shapes.float_map, (1,), tensorrt=False),
    "Gather": Operator(shapes.gather, (2,), {"axis": _one_of(0)}, tensorrt=False),
    "GatherND": Operator(
        shapes.gather_places, (2,), {"batch_dims": _one_of(0)}, tensorrt=False, rows=True
    ),
    "Gemm": Operator(
        shapes.gemm,
        (3,),
        {
            "alpha": _one_of(1.0),
            "beta": _one_of(1.0),
            "transA": _one_of(0),
            "transB": _one_of(0),
        },
        tensorrt=False,
    ),
    "Greater": Operator(shapes.compare, (2,), tensorrt=False),
    "GridSample": Operator(
        windows.sample_grid,
        (2,),
        {
            "mode": _one_of(b"bilinear"),
            "padding_mode": _one_of(b"zeros"),
            "align_corners": _one_of(0),
        },
        ("mode", "padding_mode", "align_corners"),
    ),
    "Identity": Operator(shapes.same, (1,)),
    "LeakyRelu": Operator(shapes.float_map, (1,), {"alpha": _finite}),
    "Less": Operator(shapes.compare, (2,)),
    "MatMul": Operator(shapes.matmul, (2,)),
    "Max": Operator(shapes.arithmetic, (2,), tensorrt=False),
    "MaxPool": Operator(
        windows.pool,
        (1,),
        {
            **_WINDOW,
            "ceil_mode": _one_of(0),
            "dilations": _one_of((1, 1)),
            "storage_order": _one_of(0),
        },
        ("kernel_shape",),
    ),
    "Min": Operator(shapes.arithmetic, (2,), tensorrt=False),
    "Mul": Operator(shapes.arithmetic, (2,)),
    "NonMaxSuppression": Operator(
        shapes.suppress,
        (5,),
        {"center_point_box": _one_of(0)},
        kept=(2, 3, 4),
        tensorrt=False,
    ),
    "QuantizeLinear": Operator(
        shapes.quantize, (3,), {**_AXIS, "saturate": _one_of(1)}, kept=(1, 2)
    ),
    "ReduceSum": Operator(
        shapes.reduce_all,
        (1,),
        {"keepdims": _one_of(1), "noop_with_empty_axes": _one_of(0)},
        tensorrt=False,
    ),
    "Relu": Operator(shapes.float_map, (1,)),
    "Reshape": Operator(shapes.reshape, (2,), {"allowzero": _one_of(0, 1)}, kept=(1,)),
    "RoiAlign": Operator(
        windows.pool_regions,
        (3,),
        {
            "coordinate_transformation_mode": _one_of(b"half_pixel"),
            "mode": _one_of(b"avg"),
            "output_height": _within(1, 16),
            "output_width": _within(1, 16),
            "sampling_ratio": _within(1, 8),
            "spatial_scale": _positive,
        },
        ("sampling_ratio",),
        kept=(2,),
        tensorrt=False,
    ),
    "ScatterND": Operator(
        shapes.scatter_places, (3,), {"reduction": _one_of(b"none")}, tensorrt=False, rows=True
    ),
    "Slice": Operator(shapes.take_slice, (4, 5), kept=(1, 2, 3, 4), rows=True),
    "Softmax": Operator(shapes.softmax, (1,), _AXIS, tensorrt=False),
    "Sub": Operator(shapes.arithmetic, (2,)),
    "TopK": Operator(
        shapes.top,
        (2,),
        {"axis": _one_of(0, -1), "largest": _one_of(1), "sorted": _one_of(1)},
        outputs=2,
        kept=(1,),
        tensorrt=False,
    ),
    "Transpose": Operator(
        shapes.transpose, (1,), {"perm": _all_within(0, 5, *range(1, 7))}, ("perm",)
    ),
    "Where": Operator(shapes.where, (3,)),
}
# The warp as a node of TensorRT's plugin, in the local domain.
PLUGIN: Final = Operator(
    shapes.warp,
    (3,),
    {
        "plugin_version": _one_of(b"1"),
        "plugin_namespace": _one_of(b""),
        "channels_last": _one_of(1),
        "scale_step": _positive,
    },
    ("plugin_version", "channels_last", "scale_step"),
)


def kept_inputs(nodes: Iterable[Node]) -> set[str]:
    """Return the names of the stored tensors whose numbers the rules read."""
    return {
        node.inputs[at]
        for node in nodes
        if node.operator in OPERATORS
        for at in OPERATORS[node.operator].kept
        if at < len(node.inputs)
    }


def check_node(node: Node, operator: Operator, flavour: Flavour) -> None:
    """Check a node against the rules of its operator.

    Raises:
        WireError: a number of inputs or outputs, or an attribute, that no graph of a bundle has.
    """
    if flavour == "trt" and not operator.tensorrt:
        raise WireError(f"has {node}, which no graph for TensorRT has")
    if len(node.inputs) not in operator.inputs or len(node.outputs) != operator.outputs:
        raise WireError(
            f"has {node} with {len(node.inputs)} inputs and {len(node.outputs)} outputs, expected "
            f"{' or '.join(map(str, operator.inputs[:4]))} and {operator.outputs}"
        )
    for name, value in node.attributes.items():
        check = operator.attributes.get(name)
        if check is None:
            raise WireError(f"has {node} with an attribute '{name}', which is not allowed")
        if not check(value):
            raise WireError(f"has {name} {_short(value)} in {node}, which is out of bounds")
    for name in operator.required:
        if name not in node.attributes:
            raise WireError(f"has {node} without its attribute '{name}'")


def _short(value: Attribute) -> str:
    text = f"a tensor {value.shape}" if isinstance(value, Tensor) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."
