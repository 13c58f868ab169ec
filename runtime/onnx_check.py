"""Check an ONNX file before any native code parses it.

ONNX Runtime and TensorRT parse in C++, where a hostile file can kill the
process or read other files. This module walks the file first, in Python and
without the onnx package, and lets through only what dff-edge's own exporter and
calibrator write: whole, self-contained, of bounded size, with known operators.

It does not infer shapes, so a graph that asks for absurd memory at run time
(a Tile of a Tile) can pass: digests in the manifest say that a bundle is
undamaged, not that its author means well. Run bundles of strangers in a process
with a memory limit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

import numpy as np

from dff_edge.runtime.engine import TensorSpec
from dff_edge.runtime.errors import BundleError
from dff_edge.runtime.wire import Budget, FieldValue, WireError, read_fields, skim

OPSETS = range(17, 20)
IR_VERSIONS = range(7, 15)
MAX_FILE_BYTES = 1 << 31
MAX_ELEMENTS = 1 << 31
MAX_RANK = 8
MAX_GRAPH_DEPTH = 4  # subgraphs of If and Loop within each other
MAX_FUNCTION_DEPTH = 4  # long chains of local functions overflow ONNX Runtime's stack
MAX_FUNCTIONS = 32

STANDARD_DOMAINS = ("", "ai.onnx")
LOCAL_DOMAIN = "dff"
# Contrib operators that ONNX Runtime's quantiser and optimiser write. A list, since the
# domain also holds operators that load further files (EPContext).
MICROSOFT_OPERATORS = frozenset(
    "QuantizeLinear DequantizeLinear QLinearConv QLinearAdd QLinearMul QLinearConcat "
    "QLinearLeakyRelu QLinearSigmoid QLinearSoftmax QLinearWhere QLinearAveragePool "
    "QLinearGlobalAveragePool QLinearReduceMean QGemm DynamicQuantizeMatMul "
    "MatMulIntegerToFloat FusedConv FusedGemm FusedMatMul Gelu QuickGelu NhwcMaxPool "
    "GridSample".split()
)

# Bounds of attributes that native kernels divide by or allocate from.
_ATTRIBUTE_BOUNDS = {
    "strides": (1, 65536),
    "dilations": (1, 65536),
    "kernel_shape": (1, 65536),
    "group": (1, 65536),
    "blocksize": (1, 1024),
    "pads": (-65536, 65536),
    "output_padding": (0, 65536),
    "output_shape": (1, 65536),
}

# data_type: (numpy dtype or None where numpy has none, bytes an element, typed field).
_TENSOR_TYPES: dict[int, tuple[type[np.generic] | None, int, str]] = {
    1: (np.float32, 4, "float_data"),
    2: (np.uint8, 1, "int32_data"),
    3: (np.int8, 1, "int32_data"),
    4: (np.uint16, 2, "int32_data"),
    5: (np.int16, 2, "int32_data"),
    6: (np.int32, 4, "int32_data"),
    7: (np.int64, 8, "int64_data"),
    9: (np.bool_, 1, "int32_data"),
    10: (np.float16, 2, "int32_data"),
    11: (np.float64, 8, "double_data"),
    12: (np.uint32, 4, "uint64_data"),
    13: (np.uint64, 8, "uint64_data"),
    16: (None, 2, "int32_data"),  # bfloat16
}
_TYPED_FIELDS = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data")

_Fields = dict[str, list[FieldValue]]


@dataclass(frozen=True, slots=True)
class GraphSummary:
    """What a checked ONNX file holds.

    Attributes:
        inputs: the graph's inputs by name, in order.
        outputs: the graph's outputs by name, in order.
        opset: version of the standard operator set.
        operators: how many nodes of each operator, subgraphs and functions included.
    """

    inputs: dict[str, TensorSpec]
    outputs: dict[str, TensorSpec]
    opset: int
    operators: Counter[str]


def check_onnx(data: bytes, name: str, *, plugins: Collection[str] = ()) -> GraphSummary:
    """Walk an ONNX file and refuse it unless it is whole, self-contained and bounded.

    Args:
        data: the whole file.
        name: what messages call it, for example ``"int8/feature.onnx"``.
        plugins: operators of the domain "dff" that the graph may use without a local function.

    Raises:
        BundleError: truncated or damaged, external tensor data, unknown operators,
            absurd or inconsistent tensor sizes, inputs or outputs without a static shape,
            an operator set outside 17 to 19.
    """
    if len(data) > MAX_FILE_BYTES:
        raise BundleError(f"{name} has {len(data)} bytes, expected at most {MAX_FILE_BYTES}.")
    try:
        return _Walk(plugins).model(memoryview(data))
    except WireError as error:
        raise BundleError(
            f"{name} {error}. Export or copy the bundle again; a file that is not made by "
            "dff-edge cannot be part of one."
        ) from error


@dataclass(slots=True)
class _Walk:
    """One pass over a model."""

    plugins: Collection[str] = ()
    budget: Budget = field(default_factory=Budget)
    operators: Counter[str] = field(default_factory=Counter)
    calls: set[str] = field(default_factory=set)  # local functions used since last cleared

    def model(self, data: memoryview) -> GraphSummary:
        fields = read_fields("Model", data, self.budget)
        for refused in ("training_info", "configuration"):
            if refused in fields:
                raise WireError(f"holds '{refused}', which no graph of a bundle needs")
        if "graph" not in fields:
            raise WireError("is empty or truncated: it holds no graph")
        ir_version = _integer(fields, "ir_version", 0)
        if ir_version not in IR_VERSIONS:
            raise WireError(
                f"has IR version {ir_version}, expected {IR_VERSIONS[0]} to {IR_VERSIONS[-1]}"
            )
        opset = self._opset(fields)
        self._skim(fields, "metadata_props", "Entry")

        functions = self._functions(fields)
        self.calls = set()
        inputs, outputs = self._graph(_view(fields["graph"][0]), depth=0)
        _check_calls(self.calls.difference(self.plugins) | functions.keys(), functions)
        return GraphSummary(inputs, outputs, opset, self.operators)

    def _opset(self, fields: _Fields) -> int:
        versions = []
        for view in _views(fields, "opset_import"):
            entry = read_fields("OperatorSetId", view, self.budget)
            # Imports of other domains are harmless: ONNX Runtime's optimiser lists all it knows.
            if _text(entry, "domain") in STANDARD_DOMAINS:
                versions.append(_integer(entry, "version", 0))
        if len(versions) != 1 or versions[0] not in OPSETS:
            raise WireError(
                f"imports the standard operators at {versions or 'no version'}, "
                f"expected one of {OPSETS[0]} to {OPSETS[-1]}"
            )
        return versions[0]

    def _functions(self, fields: _Fields) -> dict[str, set[str]]:
        views = list(_views(fields, "functions"))
        if len(views) > MAX_FUNCTIONS:
            raise WireError(f"has {len(views)} local functions, at most {MAX_FUNCTIONS} allowed")
        functions: dict[str, set[str]] = {}
        for view in views:
            function = read_fields("Function", view, self.budget)
            name, domain = _text(function, "name"), _text(function, "domain")
            if domain != LOCAL_DOMAIN or name in functions:
                raise WireError(
                    f"defines the function '{domain}::{name}'; only the domain "
                    f"'{LOCAL_DOMAIN}' may hold functions, each once"
                )
            self._opset(function)
            self.calls = functions[name] = set()
            for node in _views(function, "node"):
                self._node(node, depth=0)
            for attribute in _views(function, "attribute_proto"):
                self._attribute(attribute, name, depth=0)
            for value in _views(function, "value_info"):
                self._value(value)
            self._skim(function, "metadata_props", "Entry")
        return functions

    def _graph(
        self, data: memoryview, depth: int
    ) -> tuple[dict[str, TensorSpec], dict[str, TensorSpec]]:
        if depth > MAX_GRAPH_DEPTH:
            raise WireError(f"nests subgraphs more than {MAX_GRAPH_DEPTH} deep")
        fields = read_fields("Graph", data, self.budget)
        if "sparse_initializer" in fields:
            raise WireError("holds a sparse initializer, which is not supported")
        for tensor in _views(fields, "initializer"):
            self._tensor(tensor, "initializer")
        for node in _views(fields, "node"):
            self._node(node, depth)
        for value in _views(fields, "value_info"):
            self._value(value)
        self._skim(fields, "quantization_annotation", "Annotation")
        self._skim(fields, "metadata_props", "Entry")
        return self._values(fields, "input", depth), self._values(fields, "output", depth)

    def _node(self, data: memoryview, depth: int) -> None:
        fields = read_fields("Node", data, self.budget)
        operator, domain = _text(fields, "op_type"), _text(fields, "domain")
        if domain == LOCAL_DOMAIN:
            self.calls.add(operator)
        elif domain == "com.microsoft" and operator not in MICROSOFT_OPERATORS:
            raise WireError(f"uses the operator '{domain}::{operator}', which is not allowed")
        elif domain not in (*STANDARD_DOMAINS, "ai.onnx.ml", "com.microsoft"):
            raise WireError(
                f"uses the operator '{operator}' of the domain '{domain}', which is not allowed"
            )
        if "device_configurations" in fields:
            raise WireError("holds device configurations, which no graph of a bundle needs")
        is_standard = domain in STANDARD_DOMAINS
        self.operators[operator if is_standard else f"{domain}::{operator}"] += 1
        for attribute in _views(fields, "attribute"):
            self._attribute(attribute, operator, depth)
        self._skim(fields, "metadata_props", "Entry")

    def _attribute(self, data: memoryview, operator: str, depth: int) -> None:
        fields = read_fields("Attribute", data, self.budget)
        name = _text(fields, "name")
        for refused in ("sparse_tensor", "sparse_tensors", "tp", "type_protos"):
            if refused in fields:
                raise WireError(f"has an attribute '{name}' of a kind that is not supported")
        if name in _ATTRIBUTE_BOUNDS:
            low, high = _ATTRIBUTE_BOUNDS[name]
            for number in (*fields.get("i", ()), *fields.get("ints", ())):
                if not (isinstance(number, int) and low <= number <= high):
                    raise WireError(
                        f"has {name} {number} in a {operator} node, expected {low} to {high}"
                    )
        for kind in ("t", "tensors"):
            for tensor in _views(fields, kind):
                self._tensor(tensor, f"attribute '{name}' of {operator}")
        for kind in ("g", "graphs"):
            for graph in _views(fields, kind):
                self._graph(graph, depth + 1)

    def _tensor(self, data: memoryview, where: str) -> None:
        fields = read_fields("Tensor", data, self.budget)
        label = f"the tensor '{_text(fields, 'name')}' ({where})"
        if _integer(fields, "data_location", 0) != 0 or "external_data" in fields:
            raise WireError(f"keeps {label} in another file (external data), which is not allowed")
        if "segment" in fields or "string_data" in fields:
            raise WireError(f"has {label} in segments or of strings, which is not supported")
        data_type = _integer(fields, "data_type", 0)
        if data_type not in _TENSOR_TYPES:
            raise WireError(f"has {label} of type {data_type}, which is not supported")
        _, item_bytes, typed_field = _TENSOR_TYPES[data_type]
        expected = _elements([_int(size) for size in fields.get("dims", ())], label)

        counts = {n: sum(map(_int, fields[n])) for n in _TYPED_FIELDS if n in fields}
        held = counts.pop(typed_field, 0)
        if "raw_data" in fields:
            raw_bytes = len(_view(fields["raw_data"][0]))
            if held or raw_bytes % item_bytes:
                raise WireError(f"has {label} with {raw_bytes} raw bytes that do not fit its type")
            held = raw_bytes // item_bytes
        if any(counts.values()) or held != expected:
            raise WireError(
                f"has {label} of {expected} elements by its shape that holds data for {held}"
            )
        self._skim(fields, "metadata_props", "Entry")

    def _values(self, fields: _Fields, role: str, depth: int) -> dict[str, TensorSpec]:
        specs: dict[str, TensorSpec] = {}
        for view in _views(fields, role):
            name, spec = self._value(view)
            if depth > 0:  # a subgraph's values may be of any shape
                continue
            if spec is None:
                raise WireError(f"has no static tensor shape for its {role} '{name}'")
            if name in specs:
                raise WireError(f"has two {role}s of the name '{name}'")
            specs[name] = spec
        return specs

    def _value(self, data: memoryview) -> tuple[str, TensorSpec | None]:
        """Read a value's type; None where it is not a tensor of static shape."""
        fields = read_fields("ValueInfo", data, self.budget)
        name = _text(fields, "name")
        self._skim(fields, "metadata_props", "Entry")
        for view in _views(fields, "type"):
            kind = read_fields("Type", view, self.budget)
            if set(kind) - {"tensor_type", "denotation"}:
                raise WireError(f"has a value '{name}' that is not a plain tensor")
            for tensor_view in _views(kind, "tensor_type"):
                tensor = read_fields("TensorType", tensor_view, self.budget)
                return name, self._spec(name, tensor)
        return name, None

    def _spec(self, name: str, tensor: _Fields) -> TensorSpec | None:
        shape: list[int] = []
        is_static = "shape" in tensor
        for shape_view in _views(tensor, "shape"):
            for view in _views(read_fields("Shape", shape_view, self.budget), "dim"):
                dim = read_fields("Dimension", view, self.budget)
                if "dim_value" in dim and "dim_param" not in dim:
                    shape.append(_integer(dim, "dim_value", 0))
                else:
                    is_static = False
        _elements(shape, f"the value '{name}'")
        dtype = _TENSOR_TYPES.get(_integer(tensor, "elem_type", 0), (None, 0, ""))[0]
        if not is_static or dtype is None:
            return None
        return TensorSpec(name, np.dtype(dtype), tuple(shape))

    def _skim(self, fields: _Fields, name: str, message: str) -> None:
        for view in _views(fields, name):
            skim(message, view, self.budget)


def _check_calls(calls: set[str], functions: dict[str, set[str]]) -> None:
    """Refuse calls of functions that are not there, and chains that are too long or endless."""
    for depth in range(MAX_FUNCTION_DEPTH + 1):
        missing = sorted(calls - functions.keys())
        if missing:
            raise WireError(f"uses '{LOCAL_DOMAIN}::{missing[0]}' without a function of that name")
        if not calls:
            return
        if depth == MAX_FUNCTION_DEPTH:
            raise WireError(f"nests local functions more than {MAX_FUNCTION_DEPTH} deep")
        calls = set().union(*(functions[name] for name in calls))


def _elements(shape: list[int], label: str) -> int:
    product = 1
    for size in shape:
        product *= size
        if size < 0 or size > MAX_ELEMENTS or product > MAX_ELEMENTS:
            raise WireError(f"has {label} with an absurd shape {shape}")
    if len(shape) > MAX_RANK:
        raise WireError(f"has {label} with {len(shape)} axes, at most {MAX_RANK} allowed")
    return product


def _views(fields: _Fields, name: str) -> Iterable[memoryview]:
    return map(_view, fields.get(name, ()))


def _view(value: FieldValue) -> memoryview:
    assert isinstance(value, memoryview)
    return value


def _int(value: FieldValue) -> int:
    assert isinstance(value, int)
    return value


def _integer(fields: _Fields, name: str, default: int) -> int:
    return _int(fields[name][0]) if name in fields else default


def _text(fields: _Fields, name: str) -> str:
    return str(fields[name][0]) if name in fields else ""
