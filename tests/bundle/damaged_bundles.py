"""Damage of files, graphs and manifests of a bundle, at random."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from dff_edge.bundle.graphs.onnx_operators import OPERATORS

INTS = [0, 1, -1, 2, 3, 7, 16, 255, 256, 1000, 65536, 2**31 - 1, 2**31, 2**62, -(2**63), 2**63 - 1]
FLOATS = [0.0, -0.0, 1.0, -1.0, 0.5, 1e-40, 1e38, -1e38, float("inf"), float("-inf"), float("nan")]


def replace_file(folder: Path, name: str, data: bytes) -> None:
    """Put a file in a bundle, with the right digest in the manifest."""
    (folder / name).write_bytes(data)
    fields = json.loads((folder / "manifest.json").read_text())
    fields["files"][name] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    (folder / "manifest.json").write_text(json.dumps(fields))


def damage_bytes(data: bytes, rng: random.Random) -> bytes:
    """Change, remove and add a few bytes."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(changed))
        kind = rng.randrange(5)
        if kind == 0:
            changed[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            changed[at] = rng.choice([0x00, 0x01, 0x7F, 0x80, 0xFF])
        elif kind == 2:
            del changed[at : at + rng.randint(1, 16)]
        elif kind == 3:
            changed[at:at] = rng.randbytes(rng.randint(1, 16))
        else:  # a part of it once more
            start = rng.randrange(len(changed))
            changed[at:at] = changed[start : start + rng.randint(1, 200)]
    return bytes(changed)


def damage_graph(data: bytes, rng: random.Random) -> bytes:
    """Change what a graph says: attributes, operators, wiring, stored numbers, told shapes."""
    model = onnx.load_from_string(data)
    graph = model.graph
    for _ in range(rng.randint(1, 3)):
        node = rng.choice(graph.node)
        kind = rng.randrange(8)
        if kind == 0 and node.attribute:
            attribute = rng.choice(node.attribute)
            if attribute.ints:
                attribute.ints[rng.randrange(len(attribute.ints))] = rng.choice(INTS)
            elif attribute.type == onnx.AttributeProto.INT:
                attribute.i = rng.choice(INTS)
            elif attribute.type == onnx.AttributeProto.FLOAT:
                attribute.f = rng.choice(FLOATS)
        elif kind == 1:
            node.op_type = rng.choice(list(OPERATORS))
        elif kind == 2 and node.input:
            names = [name for other in graph.node for name in (*other.input, *other.output)]
            node.input[rng.randrange(len(node.input))] = rng.choice(names)
        elif kind in (3, 4) and graph.initializer:
            damage_tensor(rng.choice(graph.initializer), rng)
        elif kind == 5:
            graph.node.insert(rng.randrange(len(graph.node)), node)
        elif kind == 6:
            graph.node.remove(node)
        elif kind == 7:
            value = rng.choice([*graph.input, *graph.output])
            rng.choice(value.type.tensor_type.shape.dim).dim_value = rng.choice(INTS)
        if not graph.node:
            break
    return model.SerializeToString()


def damage_tensor(tensor: onnx.TensorProto, rng: random.Random) -> None:
    """Store other numbers of the same type and shape."""
    values = numpy_helper.to_array(tensor).copy()
    if values.size == 0:
        return
    choices: list[Any] = FLOATS if values.dtype.kind == "f" else INTS
    with np.errstate(over="ignore"):
        if values.dtype.kind in "iu":
            low, high = np.iinfo(values.dtype).min, np.iinfo(values.dtype).max
            choices = [number for number in INTS if low <= number <= high]
        if rng.random() < 0.2:
            values[...] = rng.choice(choices)
        else:
            values.reshape(-1)[rng.randrange(values.size)] = rng.choice(choices)
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def damage_manifest(text: str, rng: random.Random) -> str:
    """Change values of a manifest, wherever they are."""
    fields = json.loads(text)
    for _ in range(rng.randint(1, 3)):
        place: Any = fields
        while True:
            keys: list[Any] = list(place) if isinstance(place, dict) else list(range(len(place)))
            if not keys:
                break
            key = rng.choice(keys)
            if isinstance(place[key], (dict, list)) and rng.random() < 0.8:
                place = place[key]
                continue
            others: list[Any] = [
                None,
                True,
                [],
                {},
                "",
                "\x1b[2J",
                "x" * 5000,
                place[key],
                10**4000,
            ]
            place[key] = rng.choice([*others, *INTS, *FLOATS])
            break
    return json.dumps(fields)
