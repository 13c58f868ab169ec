"""A key and a record of an engine, for tests of what keeps them."""

from __future__ import annotations

import hashlib
from typing import Any

from dff_edge.runtime.engines.cache import EngineKey, EngineRecord

FIELDS: dict[str, Any] = {
    "target": "tensorrt",
    "precision": "fp16",
    "subnet": "feature",
    "graph_sha256": "1" * 64,
    "plugin_sha256": "2" * 64,
    "runtime": "TensorRT 10.3.0",
    "device": "Orin (compute capability 8.7)",
    "flags": "no-tf32",
}


def engine_key(**changes: Any) -> EngineKey:
    return EngineKey(**{**FIELDS, **changes})


def engine_record(data: bytes, key: EngineKey | None = None, **changes: Any) -> EngineRecord:
    fields: dict[str, Any] = {
        "key": key or engine_key(),
        "sha256": hashlib.sha256(data).hexdigest(),
        "built": "2026-01-01T00:00:00Z",
        "build_s": 12.5,
        "median_ms": 3.25,
        "relative_error": 1e-3,
        "fidelity": 0.9995,
        "agreement": 0.9975,
        "source": "synthetic://street",
        "summary": {"layers": 7},
    }
    return EngineRecord(**{**fields, **changes})
