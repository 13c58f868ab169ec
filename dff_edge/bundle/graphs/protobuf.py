"""The protobuf wire format, the part that ONNX files need, read strictly.

Reads one message at a time into its fields without descending, so that the
caller decides how deep to go. Everything that two parsers could read differently
is refused: unknown fields, repeated singular fields, wrong wire types, groups,
over-long varints, text that is not UTF-8.

Format: https://protobuf.dev/programming-guides/encoding
Fields: onnx.proto of IR version 14 (onnx 1.23).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types; 3 and 4 are groups

MAX_TEXT_BYTES = 1024  # names; those of nodes that came from torch have about 100
MAX_NUMBERS = 1 << 16  # of one field; larger tensors come as raw_data

FieldValue: TypeAlias = int | float | str | memoryview


class WireError(ValueError):
    """The bytes are not a valid message."""


@dataclass(slots=True)
class Budget:
    """Number of fields that may still be read; bounds the time of parsing a hostile file."""

    fields_left: int = 400_000  # a ResNet-101 in Q/DQ form has about 100,000

    def spend(self, count: int) -> None:
        """Count fields that were read.

        Raises:
            WireError: there were too many.
        """
        self.fields_left -= count
        if self.fields_left < 0:
            raise WireError("has too many fields to be a graph of this toolkit")


# Kinds of a field: "int" varint; "f32", "f64" fixed width; "text" UTF-8; "bytes"; any other is
# the name of a message. "*" in front: repeated.
SCHEMA: Final[dict[str, dict[int, tuple[str, str]]]] = {
    "Model": {
        1: ("ir_version", "int"),
        2: ("producer_name", "text"),
        3: ("producer_version", "text"),
        4: ("domain", "text"),
        5: ("model_version", "int"),
        6: ("doc_string", "text"),
        7: ("graph", "Graph"),
        8: ("opset_import", "*OperatorSetId"),
        14: ("metadata_props", "*Entry"),
        20: ("training_info", "*TrainingInfo"),
        25: ("functions", "*Function"),
        26: ("configuration", "*DeviceConfiguration"),
    },
    "OperatorSetId": {1: ("domain", "text"), 2: ("version", "int")},
    "Entry": {1: ("key", "text"), 2: ("value", "text")},
    "Graph": {
        1: ("node", "*Node"),
        2: ("name", "text"),
        5: ("initializer", "*Tensor"),
        10: ("doc_string", "text"),
        11: ("input", "*ValueInfo"),
        12: ("output", "*ValueInfo"),
        13: ("value_info", "*ValueInfo"),
        14: ("quantization_annotation", "*Annotation"),
        15: ("sparse_initializer", "*SparseTensor"),
        16: ("metadata_props", "*Entry"),
    },
    "Function": {
        1: ("name", "text"),
        4: ("input", "*text"),
        5: ("output", "*text"),
        6: ("attribute", "*text"),
        7: ("node", "*Node"),
        8: ("doc_string", "text"),
        9: ("opset_import", "*OperatorSetId"),
        10: ("domain", "text"),
        11: ("attribute_proto", "*Attribute"),
        12: ("value_info", "*ValueInfo"),
        13: ("overload", "text"),
        14: ("metadata_props", "*Entry"),
    },
    "Node": {
        1: ("input", "*text"),
        2: ("output", "*text"),
        3: ("name", "text"),
        4: ("op_type", "text"),
        5: ("attribute", "*Attribute"),
        6: ("doc_string", "text"),
        7: ("domain", "text"),
        8: ("overload", "text"),
        9: ("metadata_props", "*Entry"),
        10: ("device_configurations", "*NodeDeviceConfiguration"),
    },
    "Attribute": {
        1: ("name", "text"),
        2: ("f", "f32"),
        3: ("i", "int"),
        4: ("s", "bytes"),
        5: ("t", "Tensor"),
        6: ("g", "Graph"),
        7: ("floats", "*f32"),
        8: ("ints", "*int"),
        9: ("strings", "*bytes"),
        10: ("tensors", "*Tensor"),
        11: ("graphs", "*Graph"),
        13: ("doc_string", "text"),
        14: ("tp", "Type"),
        15: ("type_protos", "*Type"),
        20: ("type", "int"),
        21: ("ref_attr_name", "text"),
        22: ("sparse_tensor", "SparseTensor"),
        23: ("sparse_tensors", "*SparseTensor"),
    },
    "Tensor": {
        1: ("dims", "*int"),
        2: ("data_type", "int"),
        3: ("segment", "Segment"),
        4: ("float_data", "*f32"),
        5: ("int32_data", "*int"),
        6: ("string_data", "*bytes"),
        7: ("int64_data", "*int"),
        8: ("name", "text"),
        9: ("raw_data", "bytes"),
        10: ("double_data", "*f64"),
        11: ("uint64_data", "*int"),
        12: ("doc_string", "text"),
        13: ("external_data", "*Entry"),
        14: ("data_location", "int"),
        16: ("metadata_props", "*Entry"),
    },
    "ValueInfo": {
        1: ("name", "text"),
        2: ("type", "Type"),
        3: ("doc_string", "text"),
        4: ("metadata_props", "*Entry"),
    },
    "Type": {
        1: ("tensor_type", "TensorType"),
        4: ("sequence_type", "Sequence"),
        5: ("map_type", "Map"),
        6: ("denotation", "text"),
        7: ("opaque_type", "Opaque"),
        8: ("sparse_tensor_type", "TensorType"),
        9: ("optional_type", "Optional"),
    },
    "TensorType": {1: ("elem_type", "int"), 2: ("shape", "Shape")},
    "Shape": {1: ("dim", "*Dimension")},
    "Dimension": {1: ("dim_value", "int"), 2: ("dim_param", "text"), 3: ("denotation", "text")},
    "Annotation": {1: ("tensor_name", "text"), 2: ("quant_parameter_tensor_names", "*Entry")},
}


# The fields that a graph of a bundle may have; all others are refused by name.
NEEDED: Final[dict[str, str]] = {
    "Model": "ir_version producer_name producer_version domain model_version doc_string graph "
    "opset_import functions",
    "OperatorSetId": "domain version",
    "Graph": "node name initializer doc_string input output value_info",
    "Function": "name input output node doc_string opset_import domain",
    "Node": "input output name op_type attribute doc_string domain",
    "Attribute": "name f i s t ints doc_string type",
    "Tensor": "dims data_type float_data int32_data int64_data name raw_data doc_string "
    "data_location external_data",  # the last two say that there are none
    "ValueInfo": "name type doc_string",
    "Type": "tensor_type",
    "TensorType": "elem_type shape",
    "Shape": "dim",
    "Dimension": "dim_value",
}
_WIRE_TYPES = {"int": VARINT, "f32": FIXED32, "f64": FIXED64}  # all others are BYTES


class Field(NamedTuple):
    """A field of a message.

    Attributes:
        name: as in onnx.proto.
        kind: "int", "f32", "f64", "text", "bytes" or the name of a message.
        wire_type: of one value; arrays of numbers may also come as bytes.
        is_repeated: whether it may be there more than once.
        is_needed: whether a graph of a bundle may have it.
    """

    name: str
    kind: str
    wire_type: int
    is_repeated: bool
    is_needed: bool


FIELDS: Final[dict[str, dict[int, Field]]] = {
    message: {
        number: Field(
            name,
            kind.removeprefix("*"),
            _WIRE_TYPES.get(kind.removeprefix("*"), BYTES),
            kind.startswith("*"),
            name in NEEDED.get(message, "").split(),
        )
        for number, (name, kind) in fields.items()
    }
    for message, fields in SCHEMA.items()
}
_FIXED = {"f32": ("<f", 4), "f64": ("<d", 8)}


def read_fields(message: str, data: memoryview, budget: Budget) -> dict[str, list[FieldValue]]:
    """Read the fields of one message; nested messages are returned as unread bytes.

    Args:
        message: its name in ``SCHEMA``.
        data: its bytes, all of them.
        budget: shared by all messages of a file.

    Returns:
        Values by field name, in file order; absent fields are absent. Integers are
        signed 64-bit.

    Raises:
        WireError: when the bytes are damaged or not strictly this message, or a field is not one
            of ``NEEDED``.
    """
    fields = FIELDS[message]
    found: dict[str, list[FieldValue]] = {}
    at, end, count = 0, len(data), 0
    while at < end:
        count += 1
        tag = data[at]
        if tag < 0x80:  # nearly all, here and below
            at += 1
        else:
            tag, at = read_varint(data, at)
        field = fields.get(tag >> 3)
        if field is None or not field.is_needed:
            raise refused(tag >> 3, message)
        name, kind, wire_type, is_repeated, _ = field
        values = found.get(name)
        if values is None:
            values = found[name] = []
        elif not is_repeated:
            raise WireError(f"holds field '{name}' twice in one {message} message")
        if tag & 7 == BYTES:
            if at < end and data[at] < 0x80:
                length = data[at]
                at += 1
            else:
                length, at = read_varint(data, at)
            payload = data[at : at + length]
            at += length
            if at > end:
                raise truncated(message, length, len(payload))
            if kind == "text":
                values.append(read_text(payload, name))
            elif wire_type == BYTES:
                values.append(payload)
            elif is_repeated:
                values.extend(read_packed(payload, field))
            else:
                raise WireError(f"has field '{name}' of a {message} in the wrong wire type")
        elif tag & 7 != wire_type:
            raise WireError(f"has field '{name}' of a {message} in the wrong wire type")
        elif wire_type == VARINT:
            number, at = read_varint(data, at)
            values.append(signed(number))
        else:
            form, width = _FIXED[kind]
            if width > end - at:
                raise truncated(message, width, end - at)
            values.append(struct.unpack_from(form, data, at)[0])
            at += width
        if len(values) > MAX_NUMBERS:
            raise WireError(f"has more than {MAX_NUMBERS} values in field '{name}'")
    budget.spend(count)
    return found


def read_varint(data: memoryview, at: int) -> tuple[int, int]:
    """Read an unsigned number of up to 64 bits; return it and its end."""
    if at < len(data) and data[at] < 0x80:  # nearly all are of one byte
        return data[at], at + 1
    value = shift = 0
    for byte in data[at : at + 10]:
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >> 64:
                raise WireError("holds a number of more than 64 bits")
            return value, at
        shift += 7
    raise WireError("is truncated or damaged: a number has no end")


def read_text(payload: memoryview, name: str) -> str:
    """Read a text field."""
    if len(payload) > MAX_TEXT_BYTES:
        raise WireError(
            f"has text of {len(payload)} bytes in field '{name}', at most {MAX_TEXT_BYTES} allowed"
        )
    try:
        return str(payload, "utf-8")
    except UnicodeDecodeError as error:
        raise WireError(f"has text in field '{name}' that is not UTF-8") from error


def refused(number: int, message: str) -> WireError:
    """Return the error for a field that is unknown, or that no graph of a bundle needs."""
    field = FIELDS[message].get(number)
    if field is None:
        return WireError(f"holds unknown field {number} in a {message} message")
    return WireError(f"holds '{field.name}', which no graph of a bundle needs")


def truncated(message: str, wanted: int, left: int) -> WireError:
    """Return the error for a message that ends too early."""
    return WireError(
        f"is truncated or damaged: a {message} message needs {wanted} bytes where {left} are left"
    )


def signed(number: int) -> int:
    """Convert the 64 bits of a number to int64."""
    return number - (1 << 64) if number >> 63 else number


def read_packed(payload: memoryview, field: Field) -> list[int] | list[float]:
    """Read an array of numbers that follow each other without tags."""
    if field.kind != "int":
        form, width = _FIXED[field.kind]
        if len(payload) % width:
            raise WireError(
                f"has {len(payload)} bytes of '{field.name}', not a multiple of {width}"
            )
        if len(payload) // width > MAX_NUMBERS:
            raise WireError(f"has more than {MAX_NUMBERS} numbers in field '{field.name}'")
        return [value for (value,) in struct.iter_unpack(form, payload)]
    if len(payload) > MAX_NUMBERS * 10:
        raise WireError(f"has more than {MAX_NUMBERS} numbers in field '{field.name}'")
    if len(payload) > 0 and max(payload) < 0x80:  # small ones, each a byte
        return list(payload)
    numbers, at = [], 0
    while at < len(payload):
        number, at = read_varint(payload, at)
        numbers.append(signed(number))
    return numbers
