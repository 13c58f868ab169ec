"""The current numbers of one source: the contents of ``/stats.json?source=0``.

``/sources.json`` has a list of them, "sources", without the last four.

What `dff-edge run --json` says too has the same key and form here (``RunStatistics.as_dict``).

    state       "running", "finished" (the source ended), "stopped" (by a person) or "failed"
    failure     why it failed, null otherwise
    frames, key_frames        results so far, and key frames that they were answered from
    fps         results per second: over the latest 2 s, or over all when the run is over
    silent_s    seconds since the latest result, or since the start; null when the run is over
    source      its URI
    camera      "live", "stalled", "lost" or "closed"; null where the source is not live, or is not
                open yet
    read, dropped, failed, reconnects         of the source's frames
    latency     p50_ms and p99_ms from submit to result, by kind: "frame" (every one), "key frame",
                "other frame"; without those of which there was none
    age         p50_ms and p99_ms from capture to result; null where the source is not live
    key_age     p50_ms and p99_ms from the capture of a result's key frame to its own; null before
                the first
    policy, keys        key-frame policy and key mode of the run
    expected_disagreement     mean, p50 and p99; null where the bundle has no model of it
    stages      by name: count, p50_ms, p99_ms, and share, its part of the time of all stages
    recent      the latest 120 frames, oldest first: index, is_key, latency_ms,
                expected_disagreement
    sinks       uri, written, lost, failure (null while it works)
    classes     name and colour ("#rrggbb")
    sources     number of sources
    viewers, most_viewers     number of open streams, and its limit
    watching    whether the stream that the request names (?viewer=) is open

Percentiles and shares are of the latest 600 results.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from dff_edge.frames import FrameCounts, Result
from dff_edge.runtime.drawing.text import Colours
from dff_edge.runtime.run_statistics import latency_kinds, percentiles
from dff_edge.runtime.sinks import FanOut
from dff_edge.runtime.sources import LiveSource, Source

RunState = Literal["running", "finished", "stopped", "failed"]

_KEPT = 600
_CHARTED = 120
_RATE_S = 2.0


@dataclass(frozen=True, slots=True)
class _Sample:
    """One result, without its arrays."""

    time_s: float
    index: int
    is_key: bool
    latency_ms: float
    age_ms: float | None
    key_age_ms: float
    expected_disagreement: float | None
    stage_ms: dict[str, float]


class RunNumbers:
    """Collects the numbers of a source, in bounded memory. One thread adds, another one reads.

    Args:
        uri: the source, which may be still to be opened.
        classes: names of the classes, by index.
        colours: ``(red, green, blue)`` of the classes, by index.
        policy, keys: key-frame policy and key mode of the run.
    """

    def __init__(
        self, uri: str, classes: Sequence[str], colours: Colours, *, policy: str, keys: str
    ) -> None:
        self._how = {"policy": policy, "keys": keys}
        self._uri = uri
        self._source: Source | None = None
        self._sinks: FanOut | None = None
        self._classes = [
            {"name": name, "colour": "#{:02x}{:02x}{:02x}".format(*colour)}
            for name, colour in zip(classes, colours, strict=True)
        ]
        self._samples: deque[_Sample] = deque(maxlen=_KEPT)
        self._frames = 0
        self._key_frames = 0
        self._key: tuple[int, int] | None = None  # of the latest result: its segment, and number
        self._state: RunState = "running"
        self._failure: str | None = None
        self._start_s = time.monotonic()
        self._end_s: float | None = None
        self._end_counts = FrameCounts()

    def begin(self, source: Source, sinks: FanOut) -> None:
        """Read the state and counts of the source, and the losses of the sinks, from now on."""
        self._sinks = sinks
        self._source = source

    def add(self, result: Result) -> None:
        """Add one result."""
        self._frames += 1
        key = (result.frame.segment, result.key_index)
        self._key_frames += key != self._key
        self._key = key
        age_ms = None if result.age_s is None else result.age_s * 1e3
        self._samples.append(
            _Sample(
                time.monotonic(),
                result.frame.index,
                result.is_key,
                result.latency_s * 1e3,
                age_ms,
                result.key_age_s * 1e3,
                result.expected_disagreement,
                result.stage_ms,
            )
        )

    def finish(self, state: RunState, failure: str | None = None) -> None:
        """Note that the run is over."""
        if self._source is not None:
            self._end_counts = replace(self._source.counts)  # a camera counts on until it is closed
        self._end_s = time.monotonic()
        self._failure = failure
        self._state = state

    def as_dict(self) -> dict[str, Any]:
        """Return the numbers, ready for JSON."""
        samples = list(self._samples)  # atomic in the interpreter: none is added meanwhile
        now_s = time.monotonic()
        latest_s = samples[-1].time_s if samples else self._start_s
        if self._end_s is None:
            fps = _rate(samples, self._start_s, now_s)
            counts = FrameCounts() if self._source is None else self._source.counts
        else:
            counts = self._end_counts
            fps = self._frames / max(self._end_s - self._start_s, 1e-3)
        ages = [sample.age_ms for sample in samples if sample.age_ms is not None]
        return {
            "state": self._state,
            "failure": self._failure,
            "frames": self._frames,
            "key_frames": self._key_frames,
            "fps": round(fps, 2),
            "silent_s": None if self._end_s is not None else round(now_s - latest_s, 2),
            "source": self._uri if self._source is None else self._source.uri,
            "camera": self._source.state if isinstance(self._source, LiveSource) else None,
            "read": counts.read,
            "dropped": counts.dropped,
            "failed": counts.failed,
            "reconnects": counts.reconnects,
            "latency": _latencies(samples),
            "age": percentiles(ages) if ages else None,
            "key_age": percentiles([s.key_age_ms for s in samples]) if samples else None,
            **self._how,
            "expected_disagreement": _expected(samples),
            "stages": _stages(samples),
            "recent": [
                {
                    "index": s.index,
                    "is_key": s.is_key,
                    "latency_ms": round(s.latency_ms, 2),
                    "expected_disagreement": s.expected_disagreement,
                }
                for s in samples[-_CHARTED:]
            ],
            "sinks": [] if self._sinks is None else [asdict(r) for r in self._sinks.reports],
            "classes": self._classes,
        }


def _rate(samples: Sequence[_Sample], start_s: float, now_s: float) -> float:
    """Return results per second over the latest ``_RATE_S``, or since the start if later."""
    since_s = max(start_s, now_s - _RATE_S)
    if len(samples) == _KEPT:
        since_s = max(since_s, samples[0].time_s)
    return sum(sample.time_s > since_s for sample in samples) / max(now_s - since_s, 1e-3)


def _latencies(samples: Sequence[_Sample]) -> dict[str, dict[str, float]]:
    times: dict[str, list[float]] = {}
    for sample in samples:
        for kind in latency_kinds(is_key=sample.is_key):
            times.setdefault(kind, []).append(sample.latency_ms)
    return {kind: percentiles(values) for kind, values in times.items()}


def _expected(samples: Sequence[_Sample]) -> dict[str, float] | None:
    known = [s.expected_disagreement for s in samples if s.expected_disagreement is not None]
    if not known:
        return None
    return {"mean": sum(known) / len(known), **percentiles(known, "")}


def _stages(samples: Sequence[_Sample]) -> dict[str, dict[str, Any]]:
    times: dict[str, list[float]] = {}
    for sample in samples:
        for name, value in sample.stage_ms.items():
            times.setdefault(name, []).append(value)
    total = sum(map(sum, times.values()))
    return {
        name: {
            "count": len(values),
            **percentiles(values),
            "share": sum(values) / total if total else 0.0,
        }
        for name, values in times.items()
    }
