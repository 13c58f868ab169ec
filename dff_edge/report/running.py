"""What a run took: frames per second, and where the time went."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from dff_edge.runtime.frames import FrameCounts, Result


class RunStatistics:
    """Collects the stage times of results. The clock starts when it is made."""

    def __init__(self) -> None:
        self.frames = 0
        self._key_frames = 0
        self._stages: dict[str, list[float]] = {}
        self._latencies: dict[str, list[float]] = {"key frame": [], "other frame": []}
        self._start_s = time.perf_counter()
        self._seconds = 0.0
        self._counts = FrameCounts()

    def add(self, result: Result) -> None:
        """Take in one result."""
        self.frames += 1
        self._key_frames += result.is_key
        for name, value in result.stage_ms.items():
            self._stages.setdefault(name, []).append(value)
        self._latencies["key frame" if result.is_key else "other frame"].append(
            result.latency_s * 1e3
        )

    def finish(self, counts: FrameCounts | None = None) -> None:
        """Stop the clock; take over what became of the source's frames."""
        self._seconds = time.perf_counter() - self._start_s
        if counts is not None:
            self._counts = counts

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready numbers. ``share`` is a stage's part of the time of all stages together."""
        total = sum(sum(values) for values in self._stages.values())
        return {
            "frames": self.frames,
            "key_frames": self._key_frames,
            "seconds": self._seconds,
            "fps": self.frames / self._seconds if self._seconds else 0.0,
            "read": self._counts.read,
            "dropped": self._counts.dropped,
            "failed": self._counts.failed,
            "failures": list(self._counts.reasons),
            "stages": {
                name: {
                    "count": len(values),
                    "p50_ms": float(np.percentile(values, 50)),
                    "p99_ms": float(np.percentile(values, 99)),
                    "share": sum(values) / total,
                }
                for name, values in self._stages.items()
            },
            "latency": {
                name: {
                    "p50_ms": float(np.percentile(values, 50)),
                    "p99_ms": float(np.percentile(values, 99)),
                }
                for name, values in self._latencies.items()
                if values
            },
        }
