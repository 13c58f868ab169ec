"""Check that TensorRT would compute a graph as it is written.

TensorRT quantises to int8 around zero. Its parser takes uint8 for int8 with no more than a
warning where the zero point is 0, which clips the upper half of all values: the graph builds and
is wrong. So whatever is quantised otherwise never reaches it. Functions and subgraphs are refused
since nothing in a graph for TensorRT needs them, and Q/DQ could hide there.

The parser's behaviour was seen with TensorRT for RTX 1.7.1: see tests/deploy/test_rtx_build.py.
"""

from __future__ import annotations

from dff_edge.runtime.errors import BundleError
from dff_edge.runtime.wire import Budget, FieldValue, WireError, read_fields

# Operator of the plugin for warp and scale, in the domain of local functions.
WARP_PLUGIN = "DffWarp"

_CONVERSIONS = ("QuantizeLinear", "DequantizeLinear")
_INT8 = 3  # onnx.TensorProto.INT8
_DOMAINS = ("", "ai.onnx", "dff")

_Fields = dict[str, list[FieldValue]]


def check_for_tensorrt(data: bytes, name: str) -> None:
    """Refuse a graph that TensorRT would misread.

    Args:
        data: an ONNX file that ``check_onnx`` let through.
        name: what messages call it.

    Raises:
        BundleError: a QuantizeLinear or DequantizeLinear whose zero point is not a stored int8 of
            zeros, an operator of ONNX Runtime, a local function or a subgraph; the message names
            the node.
    """
    try:
        _check(memoryview(data))
    except WireError as error:
        raise BundleError(
            f"{name} {error}. TensorRT would compute something else; calibrate the bundle again "
            "with `dff-edge calibrate --flavour trt`."
        ) from error


def _check(data: memoryview) -> None:
    budget = Budget()
    model = read_fields("Model", data, budget)
    if "functions" in model:
        raise WireError("has local functions, expected a graph for TensorRT without them")
    graph = read_fields("Graph", _view(model["graph"][0]), budget)
    zero_points = {
        str(tensor["name"][0]): _is_symmetric(tensor)
        for view in graph.get("initializer", ())
        if "name" in (tensor := read_fields("Tensor", _view(view), budget))
    }
    for view in graph.get("node", ()):
        node = read_fields("Node", _view(view), budget)
        operator, domain = _text(node, "op_type"), _text(node, "domain")
        label = f"the {operator} node '{_text(node, 'name')}'"
        if domain not in _DOMAINS or operator.startswith(("QLinear", "DynamicQuantize")):
            raise WireError(f"has {label}, which ONNX Runtime alone knows")
        for attribute in node.get("attribute", ()):
            if {"g", "graphs"} & read_fields("Attribute", _view(attribute), budget).keys():
                raise WireError(f"has {label} with a subgraph, expected none for TensorRT")
        inputs = [str(value) for value in node.get("input", ())]
        # Without a zero point Q gives uint8.
        if operator in _CONVERSIONS and not (len(inputs) > 2 and zero_points.get(inputs[2])):
            raise WireError(
                f"has {label} that is not symmetric int8, expected a stored int8 zero point of 0"
            )


def _is_symmetric(tensor: _Fields) -> bool:
    raw = tensor.get("raw_data", [memoryview(b"")])[0]
    return tensor.get("data_type") == [_INT8] and len(_view(raw)) > 0 and not any(_view(raw))


def _view(value: FieldValue) -> memoryview:
    assert isinstance(value, memoryview)
    return value


def _text(fields: _Fields, name: str) -> str:
    return str(fields[name][0]) if name in fields else ""
