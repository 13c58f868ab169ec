"""The protobuf wire format, as far as an ONNX file needs it, and strictly.

Reads one message at a time into its fields without descending, so that the
caller decides how deep to go. Whatever two parsers could read differently is
refused: unknown fields, repeated singular fields, wrong wire types, groups,
over-long varints, text that is not UTF-8.

Format: https://protobuf.dev/programming-guides/encoding
Fields: onnx.proto of IR version 14 (onnx 1.23).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types; 3 and 4 are groups

MAX_PACKED_VARINT_BYTES = 1 << 26  # larger tensors come as raw_data
MAX_DECODED_INTS = 4096  # dims and integer attributes

FieldValue = int | str | memoryview


class WireError(ValueError):
    """The bytes are not the message that they should be."""


@dataclass(slots=True)
class Budget:
    """Fields that may still be read; bounds the time a hostile file can take."""

    fields_left: int = 1_000_000  # a ResNet-101 in Q/DQ form has about 100,000


# Kinds of a field: "int" varint; "f32", "f64" fixed width; "text" UTF-8; "bytes";
# "n:..." a packed or unpacked array of which only the number of elements is wanted;
# anything else names a message. "*" in front: repeated.
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
        7: ("floats", "*n:f32"),
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
        4: ("float_data", "*n:f32"),
        5: ("int32_data", "*n:int"),
        6: ("string_data", "*bytes"),
        7: ("int64_data", "*n:int"),
        8: ("name", "text"),
        9: ("raw_data", "bytes"),
        10: ("double_data", "*n:f64"),
        11: ("uint64_data", "*n:int"),
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


def read_fields(message: str, data: memoryview, budget: Budget) -> dict[str, list[FieldValue]]:
    """Read the fields of one message; nested messages come as unread bytes.

    Args:
        message: its name in ``SCHEMA``.
        data: its bytes, all of them.
        budget: shared by all messages of a file.

    Returns:
        Values by field name, in file order; absent fields are absent. Integers are
        signed 64-bit. An "n:" field gives numbers of elements, to be summed.

    Raises:
        WireError: when the bytes are damaged or not strictly this message.
    """
    schema = SCHEMA[message]
    found: dict[str, list[FieldValue]] = {}
    at, end = 0, len(data)
    while at < end:
        budget.fields_left -= 1
        if budget.fields_left < 0:
            raise WireError("has too many fields to be a graph of this toolkit")
        tag, at = _read_varint(data, at)
        entry = schema.get(tag >> 3)
        if entry is None:
            raise WireError(f"holds unknown field {tag >> 3} in a {message} message")
        name, kind = entry
        values = found.setdefault(name, [])
        repeated = kind.startswith("*")
        if values and not repeated:
            raise WireError(f"holds field '{name}' twice in one {message} message")
        kind = kind.removeprefix("*")
        counted = kind.startswith("n:")
        kind = kind.removeprefix("n:")
        wire_type = tag & 7

        if wire_type == VARINT and kind == "int":
            number, at = _read_varint(data, at)
            values.append(1 if counted else _signed(number))
        elif wire_type == FIXED32 and kind == "f32":
            at = _advance(at, 4, end, message)
            values.append(1)
        elif wire_type == FIXED64 and kind == "f64":
            at = _advance(at, 8, end, message)
            values.append(1)
        elif wire_type == BYTES:
            length, start = _read_varint(data, at)
            at = _advance(start, length, end, message)
            payload = data[start:at]
            if kind in ("int", "f32", "f64"):
                if not repeated:
                    raise WireError(f"has field '{name}' of a {message} in the wrong wire type")
                values.extend(_read_packed(payload, kind, name, counted))
            elif kind == "text":
                values.append(_decode(payload, name))
            else:
                values.append(payload)
        else:
            raise WireError(f"has field '{name}' of a {message} in the wrong wire type")
        if not counted and kind == "int" and len(values) > MAX_DECODED_INTS:
            raise WireError(f"has more than {MAX_DECODED_INTS} numbers in field '{name}'")
    return found


def skim(message: str, data: memoryview, budget: Budget, depth: int = 0) -> None:
    """Check that a message and all that it holds are well formed, and forget them."""
    if depth > 16:
        raise WireError(f"nests {message} messages too deeply")
    kinds = dict(SCHEMA[message].values())
    for name, values in read_fields(message, data, budget).items():
        nested = kinds[name].removeprefix("*")
        if nested in SCHEMA:
            for value in values:
                assert isinstance(value, memoryview)
                skim(nested, value, budget, depth + 1)


def _read_varint(data: memoryview, at: int) -> tuple[int, int]:
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


def _signed(number: int) -> int:
    return number - (1 << 64) if number >> 63 else number


def _advance(at: int, length: int, end: int, message: str) -> int:
    if length > end - at:
        raise WireError(
            f"is truncated or damaged: a {message} message wants {length} bytes "
            f"where {end - at} are left"
        )
    return at + length


def _decode(payload: memoryview, name: str) -> str:
    try:
        return str(payload, "utf-8")
    except UnicodeDecodeError as error:
        raise WireError(f"has text in field '{name}' that is not UTF-8") from error


def _read_packed(payload: memoryview, kind: str, name: str, counted: bool) -> list[int]:
    if kind != "int":
        width = 4 if kind == "f32" else 8
        if len(payload) % width:
            raise WireError(f"has {len(payload)} bytes of '{name}', not a multiple of {width}")
        return [len(payload) // width]
    if counted:
        return [_count_varints(payload, name)]
    if len(payload) > MAX_DECODED_INTS * 10:
        raise WireError(f"has more than {MAX_DECODED_INTS} numbers in field '{name}'")
    numbers, at = [], 0
    while at < len(payload):
        number, at = _read_varint(payload, at)
        numbers.append(_signed(number))
    return numbers


def _count_varints(payload: memoryview, name: str) -> int:
    if not payload:
        return 0
    if len(payload) > MAX_PACKED_VARINT_BYTES:
        raise WireError(f"has {len(payload)} bytes in '{name}'; large tensors come as raw_data")
    ends = np.flatnonzero(np.frombuffer(payload, np.uint8) < 0x80)
    if len(ends) == 0 or ends[-1] != len(payload) - 1 or np.diff(ends, prepend=-1).max() > 10:
        raise WireError(f"is truncated or damaged: a number of '{name}' has no end")
    return len(ends)
