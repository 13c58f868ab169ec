"""MXNet's .params, written from the description of the format."""

import struct

import numpy as np

_CODES = {"float32": 0, "float64": 1, "float16": 2, "uint8": 3, "int32": 4, "int8": 5, "int64": 6}
_MAGIC = {1: 0xF993FAC8, 2: 0xF993FAC9, 3: 0xF993FACA}


def params_bytes(arrays, version=2):
    """Arrays by name as MXNet saves them; version 0 is that of before 2017."""
    parts = [struct.pack("<QQQ", 0x112, 0, len(arrays))]
    for array in arrays.values():
        array = np.asarray(array)
        if version:
            parts.append(struct.pack("<I", _MAGIC[version]))
        if version >= 2:
            parts.append(struct.pack("<i", 0))
        parts.append(struct.pack("<I", array.ndim))
        parts.append(struct.pack(f"<{array.ndim}{'q' if version else 'I'}", *array.shape))
        parts.append(struct.pack("<iii", 2, 0, _CODES[array.dtype.name]))  # was on a GPU
        parts.append(array.tobytes())
    parts.append(struct.pack("<Q", len(arrays)))
    for name in arrays:
        parts.append(struct.pack("<Q", len(name)) + name.encode())
    return b"".join(parts)
