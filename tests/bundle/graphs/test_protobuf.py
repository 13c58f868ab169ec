"""The wire-format reader against the onnx package's own schema and against bytes made by hand."""

from __future__ import annotations

import pytest
from onnx import onnx_ml_pb2

from dff_edge.bundle.graphs.protobuf import NEEDED, SCHEMA, Budget, WireError, read_fields

# Our name of a message: its name in onnx.proto.
MESSAGES = {
    "Model": "ModelProto",
    "OperatorSetId": "OperatorSetIdProto",
    "Entry": "StringStringEntryProto",
    "Graph": "GraphProto",
    "Function": "FunctionProto",
    "Node": "NodeProto",
    "Attribute": "AttributeProto",
    "Tensor": "TensorProto",
    "ValueInfo": "ValueInfoProto",
    "Type": "TypeProto",
    "TensorType": "TypeProto.Tensor",
    "Shape": "TensorShapeProto",
    "Dimension": "TensorShapeProto.Dimension",
    "Annotation": "TensorAnnotation",
}


def read(message: str, data: bytes) -> dict[str, list[object]]:
    return read_fields(message, memoryview(data), Budget())


def descriptor_of(name: str) -> object:
    outer, _, inner = name.partition(".")
    found = onnx_ml_pb2.DESCRIPTOR.message_types_by_name[outer]
    return found.nested_types_by_name[inner] if inner else found


def test_every_message_of_the_schema_is_compared():
    assert SCHEMA.keys() == MESSAGES.keys()


@pytest.mark.parametrize("message", MESSAGES)
def test_fields_are_those_of_the_onnx_package(message):
    fields = descriptor_of(MESSAGES[message]).fields

    assert {number: name for number, (name, _) in SCHEMA[message].items()} == {
        field.number: field.name for field in fields
    }
    assert {name for name, kind in SCHEMA[message].values() if kind.startswith("*")} == {
        field.name for field in fields if field.is_repeated
    }


def test_needed_fields_are_fields():
    for message, names in NEEDED.items():
        assert set(names.split()) <= {name for name, _ in SCHEMA[message].values()}


def test_a_field_that_no_graph_needs_is_refused_by_name():
    data = onnx_ml_pb2.NodeProto(overload="x").SerializeToString()

    with pytest.raises(WireError, match="holds 'overload', which no graph of a bundle needs"):
        read("Node", data)


def test_negative_numbers_are_read_packed_and_unpacked():
    packed = onnx_ml_pb2.AttributeProto(ints=[-1, 300]).SerializeToString()
    unpacked = b"\x40" + b"\xff" * 9 + b"\x01" + b"\x40\xac\x02"

    assert read("Attribute", packed)["ints"] == [-1, 300]
    assert read("Attribute", unpacked)["ints"] == [-1, 300]


@pytest.mark.parametrize("field", ["float_data", "int32_data", "int64_data"])
@pytest.mark.parametrize("values", [[], [1, 2, 100, 3, 4], [-1, -128, 7, 1 << 30]])
def test_numbers_of_typed_data_are_read(field, values):
    tensor = onnx_ml_pb2.TensorProto(**{field: values})

    assert read("Tensor", tensor.SerializeToString()).get(field, []) == values


def test_a_float_is_read():
    assert read("Attribute", onnx_ml_pb2.AttributeProto(f=0.25).SerializeToString())["f"] == [0.25]


@pytest.mark.parametrize(
    ("message", "data", "reason"),
    [
        ("Node", b"\x0a\x05ab", "needs 5 bytes where 2 are left"),
        ("Node", b"\x0a", "a number has no end"),
        ("Attribute", b"\x15\x00\x00", "needs 4 bytes where 2 are left"),
        ("Model", b"\x08" + b"\xff" * 10, "a number has no end"),
        ("Model", b"\x08" + b"\xff" * 9 + b"\x7f", "more than 64 bits"),
        ("Model", b"\x98\x06\x01", "unknown field 99"),
        ("Model", b"\x08\x08\x08\x08", "field 'ir_version' twice"),
        ("Model", b"\x0b\x0c", "wrong wire type"),  # a group
        ("Model", b"\x0a\x01\x08", "wrong wire type"),  # ir_version as bytes
        ("Node", b"\x0a\x01\xff", "not UTF-8"),
        ("Node", b"\x0a\x81\x08" + b"x" * 1025, "text of 1025 bytes in field 'input'"),
        ("Tensor", b"\x22\x03\x00\x00\x00", "3 bytes of 'float_data', not a multiple of 4"),
        ("Tensor", b"\x2a\x02\x01\xff", "a number has no end"),
        ("Tensor", b"\x08\x01" * 65537, "more than 65536 values"),
        ("Tensor", b"\x0a\x81\x80\x28" + b"\x01" * (640 * 1024 + 1), "more than 65536 numbers"),
    ],
)
def test_damaged_bytes_are_refused(message, data, reason):
    with pytest.raises(WireError, match=reason):
        read(message, data)


def test_too_many_fields_are_refused():
    with pytest.raises(WireError, match="too many fields"):
        read_fields("Node", memoryview(b"\x0a\x00" * 11), Budget(fields_left=10))
