"""Models of staleness for tests, made by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dff_edge.bundle.reader import Bundle
from dff_edge.bundle.writer import BundleWriter


def staleness_fields(**changes: Any) -> dict[str, Any]:
    """Give the fields of a model that looks at distance, flow and the error of the warped frame."""
    fields: dict[str, Any] = {
        "bias": -3.0,
        "terms": {
            "distance": {"weight": 0.2, "centre": 1.5, "deviation": 1.0},
            "flow": {"weight": 0.5, "centre": -1.0, "deviation": 0.8},
            "error": {"weight": 0.7, "centre": 2.0, "deviation": 0.5},
        },
        "growth": 0.5,
        "max_distance": 34,
        "source": "clips",
        "clips": 4,
        "pairs": 112,
        "date": "2026-01-01T00:00:00+00:00",
        "quality": {
            "rank_correlation": 0.9,
            "distance_alone": 0.6,
            "within_distance": 0.5,
            "calibration": [
                {"expected": 0.02, "found": 0.03, "pairs": 56},
                {"expected": 0.2, "found": 0.25, "pairs": 56},
            ],
        },
    }
    return fields | changes


def with_staleness(bundle: Bundle | str | Path, **changes: Any) -> Bundle:
    """Write a model into a bundle; return it."""
    with BundleWriter.extend(bundle) as writer:
        writer.update(staleness=staleness_fields(**changes))
        return writer.commit()
