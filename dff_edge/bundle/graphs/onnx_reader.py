"""Read an ONNX file into records, strictly and in one pass.

Only fields that the graphs of a bundle use are accepted: a field that neither export nor
calibration writes is refused by name, so are subgraphs, tensors in other files, lists of tensors
and everything that two parsers could interpret differently. Weights are skipped; values that
define shapes and levels are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from dff_edge.bundle.graphs.byte_stream import ByteStream
from dff_edge.bundle.graphs.onnx_file import (
    LOCAL_DOMAIN,
    OPSETS,
    Attribute,
    Function,
    Node,
    OnnxFile,
    Tensor,
)
from dff_edge.bundle.graphs.protobuf import (
    BYTES,
    FIELDS,
    MAX_TEXT_BYTES,
    VARINT,
    Budget,
    FieldValue,
    WireError,
    read_fields,
    read_packed,
    read_text,
    refused,
    signed,
    truncated,
)
from dff_edge.bundle.tensors import TensorSpec

IR_VERSIONS = range(7, 15)
MAX_ELEMENTS = 1 << 31
MAX_RANK = 6
MAX_NODES = 5_000  # a ResNet-101 in Q/DQ form has about 1,000
MAX_NODE_VALUES = 64  # inputs and outputs of one node
MAX_MESSAGE_BYTES = 1 << 24  # a node's; one with the coordinates of a large map has 2 MB
SMALL_BYTES = 1 << 16  # of a tensor that is read at once
MAX_KEPT_BYTES = 1 << 28  # of one whose values are kept

DTYPES: dict[int, np.dtype[Any]] = {
    1: np.dtype(np.float32),
    2: np.dtype(np.uint8),
    3: np.dtype(np.int8),
    6: np.dtype(np.int32),
    7: np.dtype(np.int64),
    9: np.dtype(np.bool_),
    10: np.dtype(np.float16),
}
# Where numbers are when they are not in raw_data. Of float16 they would be bits.
_TYPED_FIELDS = {1: "float_data", 2: "int32_data", 3: "int32_data", 6: "int32_data"}
_TYPED_FIELDS |= {7: "int64_data", 9: "int32_data"}
_TYPED_NAMES = frozenset({"float_data", "int32_data", "int64_data"})

# AttributeProto.type by the field that holds the value.
_ATTRIBUTE_TYPES = {"f": 1, "i": 2, "s": 3, "t": 4, "ints": 7}

_Fields: TypeAlias = dict[str, list[FieldValue]]


def read_onnx(stream: ByteStream, wanted: Callable[[list[Node]], set[str]]) -> OnnxFile:
    """Read an ONNX file.

    Args:
        stream: at its start; where this fails, it may not be at its end.
        wanted: returns, for the nodes, the names of stored tensors to be kept, however large.

    Raises:
        WireError: damaged, truncated, or holding something that no graph of a bundle needs. The
            message is a sentence without its subject, the file.
    """
    return _Reader(stream, wanted).model()


class _Reader:
    def __init__(self, stream: ByteStream, wanted: Callable[[list[Node]], set[str]]) -> None:
        self._stream = stream
        self._wanted = wanted
        self._budget = Budget()
        self._file = OnnxFile()

    def model(self) -> OnnxFile:
        numbers: dict[str, int] = {}
        opsets: list[_Fields] = []
        functions: list[_Fields] = []
        has_graph = False
        for name, value in self._fields_of("Model", self._stream.size):
            if name == "graph":
                has_graph = True
                self._graph(self._stream.position + int(value))
            elif name == "opset_import":
                opsets.append(read_fields("OperatorSetId", self._take(value, name), self._budget))
            elif name == "functions":
                functions.append(read_fields("Function", self._take(value, name), self._budget))
            elif isinstance(value, int):
                numbers[name] = value
        if not has_graph:
            raise WireError("is empty or truncated: it holds no graph")
        ir_version = numbers.get("ir_version", 0)
        if ir_version not in IR_VERSIONS:
            raise WireError(
                f"has IR version {ir_version}, expected {IR_VERSIONS[0]} to {IR_VERSIONS[-1]}"
            )
        self._file.opset = _opset(opsets)
        for fields in functions:
            self._function(fields)
        return self._file

    def _graph(self, end: int) -> None:
        file, wanted = self._file, None
        for name, value in self._fields_of("Graph", end):
            if name == "node":
                if len(file.nodes) == MAX_NODES:
                    raise WireError(f"has more than {MAX_NODES} nodes")
                file.nodes.append(self._node(self._take(value, name)))
            elif name == "initializer":
                if wanted is None:  # fields are in order, so that all nodes are there
                    wanted = self._wanted(file.nodes)
                self._initializer(int(value), wanted)
            elif name in ("input", "output", "value_info"):
                own = {"input": file.inputs, "output": file.outputs}.get(name, file.values)
                spec = self._value(self._take(value, name), name)
                if spec.name in own:
                    raise WireError(f"has two {name}s of the name '{spec.name}'")
                own[spec.name] = spec

    def _fields_of(self, message: str, end: int) -> Iterator[tuple[str, int | str]]:
        """Read a message that is too large for memory, field by field, in the order of numbers.

        Yields:
            Name and value; for bytes and nested messages their length, to be read or skipped
            before the next one.
        """
        stream, known, last = self._stream, FIELDS[message], 0
        while stream.position < end:
            self._budget.spend(1)
            tag = stream.varint()
            number, own = tag >> 3, known.get(tag >> 3)
            if own is None or not own.is_needed:
                raise refused(number, message)
            if number < last or (number == last and not own.is_repeated):
                raise WireError(
                    f"holds field '{own.name}' twice in one {message} message, or out of order"
                )
            last, value = number, stream.varint()
            if tag & 7 == VARINT and own.kind == "int":
                yield own.name, signed(value)
                continue
            if tag & 7 != BYTES or (own.kind == "int" and not own.is_repeated):
                raise WireError(f"has field '{own.name}' of a {message} in the wrong wire type")
            if value > end - stream.position:
                raise truncated(message, value, end - stream.position)
            if own.kind not in ("int", "f32", "f64", "text"):
                yield own.name, value
            elif value > MAX_TEXT_BYTES:
                raise WireError(f"has {value} bytes in field '{own.name}' of a {message}")
            elif own.kind == "text":
                yield own.name, read_text(stream.take(value, message), own.name)
            else:
                for item in read_packed(stream.take(value, message), own):
                    yield own.name, int(item)
        if stream.position > end:
            raise WireError(f"is truncated or damaged: a {message} message has no end")

    def _take(self, length: int | str, name: str) -> memoryview:
        assert isinstance(length, int)
        if length > MAX_MESSAGE_BYTES:
            raise WireError(
                f"has a '{name}' of {length} bytes, at most {MAX_MESSAGE_BYTES} allowed"
            )
        return self._stream.take(length, name)

    def _function(self, fields: _Fields) -> None:
        name, domain = _text(fields, "name"), _text(fields, "domain")
        if domain != LOCAL_DOMAIN or name in self._file.functions:
            raise WireError(
                f"defines the function '{domain}::{name}'; only the domain "
                f"'{LOCAL_DOMAIN}' may hold functions, each once"
            )
        own = _opset(
            [
                read_fields("OperatorSetId", view, self._budget)
                for view in _views(fields, "opset_import")
            ]
        )
        if own != self._file.opset:
            raise WireError(f"defines the function '{name}' for another operator set, {own}")
        nodes = [self._node(view) for view in _views(fields, "node")]
        self._file.functions[name] = Function(
            name, _texts(fields, "input"), _texts(fields, "output"), nodes
        )

    def _node(self, data: memoryview) -> Node:
        fields = read_fields("Node", data, self._budget)
        inputs, outputs = _texts(fields, "input"), _texts(fields, "output")
        operator = _text(fields, "op_type")
        if len(inputs) + len(outputs) > MAX_NODE_VALUES:
            raise WireError(
                f"has a {operator} node of {len(inputs)} inputs and {len(outputs)} outputs, at "
                f"most {MAX_NODE_VALUES} allowed"
            )
        attributes: dict[str, Attribute] = {}
        for view in _views(fields, "attribute"):
            name, value = self._attribute(view, operator)
            if name in attributes:
                raise WireError(f"has the attribute '{name}' twice in a {operator} node")
            attributes[name] = value
        return Node(
            operator, _text(fields, "domain"), _text(fields, "name"), inputs, outputs, attributes
        )

    def _attribute(self, data: memoryview, operator: str) -> tuple[str, Attribute]:
        fields = read_fields("Attribute", data, self._budget)
        name, told = _text(fields, "name"), _integer(fields, "type", 0)
        kinds = [kind for kind in _ATTRIBUTE_TYPES if kind in fields]
        kind = kinds[0] if kinds else "ints"  # an empty list has no field
        if len(kinds) > 1 or told != _ATTRIBUTE_TYPES[kind]:
            raise WireError(
                f"has an attribute '{name}' of {operator} of type {told}, with {kinds or 'nothing'}"
            )
        if kind == "t":
            where = f"attribute '{name}' of {operator}"
            (view,) = _views(fields, "t")
            return name, self._tensor(
                read_fields("Tensor", view, self._budget), where, is_kept=True
            )
        if kind == "ints":
            return name, tuple(map(_int, fields.get("ints", ())))
        value = fields[kind][0]
        if isinstance(value, memoryview):
            return name, bytes(value)
        assert isinstance(value, (int, float))
        return name, value

    def _initializer(self, length: int, wanted: set[str]) -> None:
        end = self._stream.position + length
        if length <= SMALL_BYTES:
            fields = read_fields("Tensor", self._stream.take(length, "Tensor"), self._budget)
            tensor = self._tensor(fields, "initializer", _text(fields, "name") in wanted)
        else:
            tensor = self._large_tensor(end, wanted)
        if not tensor.name or tensor.name in self._file.tensors:
            raise WireError(f"stores two tensors of the name '{tensor.name}', or one without")
        self._file.tensors[tensor.name] = tensor

    def _large_tensor(self, end: int, wanted: set[str]) -> Tensor:
        """Read a tensor piece by piece; its values are skipped where they are not wanted."""
        fields: _Fields = {}
        passed, is_kept = 0, False
        for name, value in self._fields_of("Tensor", end):
            if name == "raw_data":
                assert isinstance(value, int)
                is_kept = _text(fields, "name") in wanted and value <= MAX_KEPT_BYTES
                if is_kept:
                    fields[name] = [self._stream.take(value, "Tensor")]
                else:
                    passed = value
                    self._stream.skip(value, "Tensor")
            elif name.endswith("_data"):
                raise WireError(f"has a large tensor in '{name}', expected its numbers in raw_data")
            else:
                fields.setdefault(name, []).append(value)
        return self._tensor(fields, "initializer", is_kept, passed)

    def _tensor(self, fields: _Fields, where: str, is_kept: bool, passed: int = 0) -> Tensor:
        """Check a tensor against its type and shape.

        Args:
            fields: its fields.
            where: its place, for messages.
            is_kept: whether its values are wanted.
            passed: number of its raw bytes that were skipped.
        """
        name = _text(fields, "name")
        label = f"the tensor '{name}' ({where})"
        if _integer(fields, "data_location", 0) != 0 or "external_data" in fields:
            raise WireError(f"keeps {label} in another file (external data), which is not allowed")
        data_type = _integer(fields, "data_type", 0)
        dtype = DTYPES.get(data_type)
        if dtype is None:
            raise WireError(f"has {label} of type {data_type}, which is not supported")
        shape = tuple(map(_int, fields.get("dims", ())))
        expected = _elements(shape, label)
        typed = {key: len(fields[key]) for key in _TYPED_NAMES.intersection(fields)}
        own_field = _TYPED_FIELDS.get(data_type, "")
        held = typed.pop(own_field, 0)
        raw = fields.get("raw_data", [memoryview(b"")])[0]
        assert isinstance(raw, memoryview)
        raw_bytes = len(raw) + passed
        if raw_bytes:
            if held or raw_bytes % dtype.itemsize:
                raise WireError(f"has {label} with {raw_bytes} raw bytes that do not fit its type")
            held = raw_bytes // dtype.itemsize
        if any(typed.values()) or held != expected:
            raise WireError(
                f"has {label} of {expected} elements by its shape that holds data for {held}"
            )
        values = None
        if is_kept and raw_bytes:
            # A copy: a view would keep the megabyte around it.
            values = np.frombuffer(raw, dtype.newbyteorder("<")).astype(dtype).reshape(shape)
        elif is_kept:
            values = _converted(fields.get(own_field, []), dtype, label).reshape(shape)
        return Tensor(name, dtype, shape, values)

    def _value(self, data: memoryview, role: str) -> TensorSpec:
        fields = read_fields("ValueInfo", data, self._budget)
        name, spec = _text(fields, "name"), None
        for view in _views(fields, "type"):
            for tensor in _views(read_fields("Type", view, self._budget), "tensor_type"):
                spec = self._spec(name, read_fields("TensorType", tensor, self._budget))
        if spec is None:
            raise WireError(f"has no static tensor shape for its {role} '{name}'")
        return spec

    def _spec(self, name: str, tensor: _Fields) -> TensorSpec | None:
        dtype = DTYPES.get(_integer(tensor, "elem_type", 0))
        shape: list[int] = []
        for view in _views(tensor, "shape"):
            for dim_view in _views(read_fields("Shape", view, self._budget), "dim"):
                dim = read_fields("Dimension", dim_view, self._budget)
                if "dim_value" not in dim:
                    return None
                shape.append(_int(dim["dim_value"][0]))
        if dtype is None or "shape" not in tensor:
            return None
        _elements(shape, f"the value '{name}'")
        return TensorSpec(name, dtype, tuple(shape))


def _opset(entries: list[_Fields]) -> int:
    """Return the version of the standard operators; the local domain may be listed beside them."""
    versions = [_integer(e, "version", 0) for e in entries if _text(e, "domain") == ""]
    others = {_text(entry, "domain") for entry in entries} - {"", LOCAL_DOMAIN}
    if others:
        raise WireError(f"imports operators of the domain '{min(others)}', which is not allowed")
    if len(versions) != 1 or versions[0] not in OPSETS:
        raise WireError(
            f"imports the standard operators at {versions or 'no version'}, "
            f"expected one of {OPSETS[0]} to {OPSETS[-1]}"
        )
    return versions[0]


def _converted(numbers: list[FieldValue], dtype: np.dtype[Any], label: str) -> NDArray[Any]:
    if dtype.kind == "f":
        return np.array(numbers, dtype)
    wide = np.array(numbers, np.int64)
    values = wide.astype(dtype)
    if not np.array_equal(values, wide):
        raise WireError(f"has {label} with a number that its type cannot hold")
    return values


def _elements(shape: Sequence[int], label: str) -> int:
    product = 1
    for size in shape:
        product *= size
        if size < 0 or size > MAX_ELEMENTS or product > MAX_ELEMENTS:
            raise WireError(f"has {label} with an absurd shape {list(shape)}")
    if len(shape) > MAX_RANK:
        raise WireError(f"has {label} with {len(shape)} axes, at most {MAX_RANK} allowed")
    return product


def _views(fields: _Fields, name: str) -> Iterator[memoryview]:
    for value in fields.get(name, ()):
        assert isinstance(value, memoryview)
        yield value


def _int(value: FieldValue) -> int:
    assert isinstance(value, int)
    return value


def _integer(fields: _Fields, name: str, default: int) -> int:
    return _int(fields[name][0]) if name in fields else default


def _text(fields: _Fields, name: str) -> str:
    return str(fields[name][0]) if name in fields else ""


def _texts(fields: _Fields, name: str) -> tuple[str, ...]:
    return tuple(map(str, fields.get(name, ())))
