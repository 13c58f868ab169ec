"""Edits of a bundle's manifest and of its graphs, whose digests then fit."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx

Edit = Callable[[dict[str, Any]], object]


def edit(path: Path, change: Edit) -> None:
    fields = json.loads((path / "manifest.json").read_text())
    change(fields)
    (path / "manifest.json").write_text(json.dumps(fields))


def edit_graph(path: Path, name: str, change: Callable[[onnx.ModelProto], object]) -> None:
    """Change a graph, and its digest in the manifest."""
    model = onnx.load(path / name)
    change(model)
    data = model.SerializeToString()
    (path / name).write_bytes(data)
    record = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    edit(path, lambda fields: fields["files"].update({name: record}))
