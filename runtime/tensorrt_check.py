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
_FLOAT, _INT8 = 1, 3  # of onnx.TensorProto
_DOMAINS = ("", "ai.onnx", "dff")

_Fields = dict[str, list[FieldValue]]


def check_for_tensorrt(data: bytes, name: str) -> None:
    """Refuse a graph that TensorRT would misread.

    Args:
        data: an ONNX file that ``check_onnx`` let through.
        name: what messages call it.

    Raises:
        BundleError: a QuantizeLinear or DequantizeLinear whose zero point is not a stored int8 of
            zeros, or which reads other stored bytes; a name that stands for two values; an
            operator of ONNX Runtime, a local function or a subgraph. The message names the node.
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
    stored = _stored_tensors(graph, budget)
    made = {
        _text(read_fields("ValueInfo", _view(view), budget), "name")
        for view in graph.get("input", ())
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
        for output in map(str, node.get("output", ())):
            if output in stored or output in made:
                raise WireError(f"has {label} that gives '{output}', a name that is taken")
            made.update([output] if output else [])
        if operator in _CONVERSIONS:
            _check_conversion([str(value) for value in node.get("input", ())], stored, label)


def _stored_tensors(graph: _Fields, budget: Budget) -> dict[str, _Fields]:
    """The graph's initializers by name. One without a name is nobody's: "" means no input."""
    stored: dict[str, _Fields] = {}
    for view in graph.get("initializer", ()):
        tensor = read_fields("Tensor", _view(view), budget)
        name = _text(tensor, "name")
        if name in stored:
            raise WireError(f"stores two tensors of the name '{name}'")
        if name:
            stored[name] = tensor
    return stored


def _check_conversion(inputs: list[str], stored: dict[str, _Fields], label: str) -> None:
    # Without a zero point Q gives uint8.
    zero = stored.get(inputs[2]) if len(inputs) > 2 else None
    if zero is None or not _is_int8_zeros(zero):
        raise WireError(
            f"has {label} that is not symmetric int8, expected a stored int8 zero point of 0"
        )
    data = stored.get(inputs[0])
    if data is not None and data.get("data_type") not in ([_FLOAT], [_INT8]):
        raise WireError(f"has {label} that reads stored bytes which are not int8")


def _is_int8_zeros(tensor: _Fields) -> bool:
    raw = tensor.get("raw_data", [memoryview(b"")])[0]
    return tensor.get("data_type") == [_INT8] and len(_view(raw)) > 0 and not any(_view(raw))


def _view(value: FieldValue) -> memoryview:
    assert isinstance(value, memoryview)
    return value


def _text(fields: _Fields, name: str) -> str:
    return str(fields[name][0]) if name in fields else ""
