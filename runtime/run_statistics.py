"""Statistics of a run: frames per second, and the time of each stage."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from dff_edge.frames import FrameCounts, Result
from dff_edge.runtime.drawing.style import SHOWN_SCORE
from dff_edge.runtime.sinks import SinkReport

_KEPT = 10_000  # latest times of each kind, for percentiles: bounded for long runs


class RunStatistics:
    """Collects the stage times of results, in bounded memory. The clock starts on construction.

    Args:
        classes: names of the classes of objects; None where objects are not counted.
        min_score: detections that score less are not counted.
    """

    def __init__(
        self, classes: Sequence[str] | None = None, min_score: float = SHOWN_SCORE
    ) -> None:
        self.frames = 0
        self._classes = classes
        self._min_score = min_score
        self._objects = np.zeros(len(classes or ()), np.int64)
        self._key_frames = 0
        self._stages: dict[str, _Times] = {}
        self._latencies = {"frame": _Times(), "key frame": _Times(), "other frame": _Times()}
        self._ages = _Times()
        self._key: tuple[int, int] | None = None  # of the latest result: its segment, and number
        self._distances, self._lags, self._key_ages = _Times(), _Times(), _Times()
        self._expected = _Times()
        self._start_s = time.perf_counter()
        self._seconds = 0.0
        self._counts = FrameCounts()

    def add(self, result: Result) -> None:
        """Add one result."""
        self.frames += 1
        key = (result.frame.segment, result.key_index)
        if key != self._key:  # the first answer from this key frame
            self._key_frames += 1
            self._lags.add(result.key_distance)
        self._key = key
        self._distances.add(result.key_distance)
        self._key_ages.add(result.key_age_s * 1e3)
        if result.expected_disagreement is not None:
            self._expected.add(result.expected_disagreement)
        if self._classes is not None and result.detections is not None:
            labels = result.detections.above(self._min_score).labels
            self._objects += np.bincount(labels, minlength=len(self._objects))
        for name, value in result.stage_ms.items():
            self._stages.setdefault(name, _Times()).add(value)
        for kind in latency_kinds(is_key=result.is_key):
            self._latencies[kind].add(result.latency_s * 1e3)
        if result.age_s is not None:
            self._ages.add(result.age_s * 1e3)

    def finish(self, counts: FrameCounts | None = None) -> None:
        """Stop the clock, and record the counts of the source's frames so far."""
        self._seconds = time.perf_counter() - self._start_s
        if counts is not None:
            self._counts = replace(counts, reasons=list(counts.reasons))  # a camera counts on

    def as_dict(self, sinks: Sequence[SinkReport] = ()) -> dict[str, Any]:
        """JSON-ready numbers.

        ``share`` is a stage's part of the time of all stages together; percentiles are of the
        latest 10,000 times; ``latency`` is of every "frame", and of each kind; ``age`` is from
        capture to result, None where the source is not live; ``objects`` is the mean number in a
        frame by class, None where they are not counted.
        ``key_distance`` is the distance of results from their key frames in frames, ``lag`` that
        of the first result from each, ``key_age`` the same in time, from the key frame's capture
        to the frame's. ``key_share`` is key frames by results, ``expected_disagreement`` how stale
        answers are expected to be, with its ``mean``: None where the bundle has no model of it.

        Args:
            sinks: outcome of each sink.
        """
        total = sum(times.total for times in self._stages.values())
        return {
            "frames": self.frames,
            "key_frames": self._key_frames,
            "key_share": self._key_frames / self.frames if self.frames else None,
            "seconds": self._seconds,
            "fps": self.frames / self._seconds if self._seconds else 0.0,
            "read": self._counts.read,
            "dropped": self._counts.dropped,
            "failed": self._counts.failed,
            "reconnects": self._counts.reconnects,
            "failures": list(self._counts.reasons),
            "stages": {
                name: {"count": times.count, **times.percentiles(), "share": times.total / total}
                for name, times in self._stages.items()
            },
            "latency": {
                name: times.percentiles() for name, times in self._latencies.items() if times.count
            },
            "age": self._ages.percentiles() if self._ages.count else None,
            "key_distance": self._distances.percentiles("") if self.frames else None,
            "lag": self._lags.percentiles("") if self.frames else None,
            "key_age": self._key_ages.percentiles() if self.frames else None,
            "expected_disagreement": {
                "mean": self._expected.total / self._expected.count,
                **self._expected.percentiles(""),
            }
            if self._expected.count
            else None,
            "objects": None
            if self._classes is None
            else {
                name: float(count) / max(self.frames, 1)
                for name, count in zip(self._classes, self._objects, strict=True)
            },
            "sinks": [asdict(report) for report in sinks],
        }


class _Times:
    """Times in ms, distances in frames or shares, of one kind.

    All of them are counted and summed, the latest kept.
    """

    def __init__(self) -> None:
        self.count = 0
        self.total = 0.0
        self._latest: deque[float] = deque(maxlen=_KEPT)

    def add(self, value: float) -> None:
        self.count += 1
        self.total += value
        self._latest.append(value)

    def percentiles(self, unit: str = "_ms") -> dict[str, float]:
        return percentiles(self._latest, unit)


def latency_kinds(*, is_key: bool) -> tuple[str, str]:
    """Return the keys of ``latency`` that a result counts for."""
    return "frame", "key frame" if is_key else "other frame"


def percentiles(values: Collection[float], unit: str = "_ms") -> dict[str, float]:
    """Return the median and the 99th percentile, as the numbers of a run have them.

    Args:
        values: at least one.
        unit: the end of the keys' names.
    """
    p50, p99 = np.percentile(np.fromiter(values, float), [50, 99])
    return {f"p50{unit}": float(p50), f"p99{unit}": float(p99)}
