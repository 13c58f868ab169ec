"""Valid manifests, with changes."""

from __future__ import annotations

import json
from typing import Any

from dff_edge.bundle.manifest import Manifest
from tests.bundle.bundles import manifest_fields

FILE = {"sha256": "a" * 64, "bytes": 10}
FP32 = {subnet: f"{subnet}.onnx" for subnet in ("feature", "flow", "task", "propagate")}
INT8 = {subnet: f"int8/{subnet}.onnx" for subnet in ("feature", "flow", "task")}
PARITY = {
    "precision": "fp32",
    "subnet": "flow",
    "output": "scale",
    "inputs": "random",
    "tolerance": 1e-4,
    "max_abs_error": 1e-6,
    "relative_error": 1e-6,
}
LEVELS = {"features": {"step": 0.5, "zero": 3}, "scale": {"step": 0.25, "zero": 4}}


def fields(**changes: Any) -> dict[str, Any]:
    """A valid manifest as plain values, with changes."""
    return {
        "schema_version": 3,
        "task": "segmentation",
        "stride": 16,
        "decoding": "bilinear_half_pixel_argmax",
        **manifest_fields(),
        "graphs": {"ort": {"fp32": FP32}},
        "files": {path: FILE for path in FP32.values()},
        **changes,
    }


def parse(**changes: Any) -> Manifest:
    return Manifest.parse(json.dumps(fields(**changes)).encode())
