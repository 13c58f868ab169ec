"""A trace of every stage on every stream, for Perfetto or chrome://tracing.

Format: Trace Event Format, "complete" events, as JSON:
https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from dff_edge.files.atomic import AtomicFile

MAX_SPANS = 200_000  # about 30 MB as a file; later ones are only counted
_EVENTS_PER_WRITE = 1000


@dataclass(frozen=True, slots=True)
class StageSpan:
    """One run of one stage.

    Attributes:
        stage: its name, as in ``Result.stage_ms``.
        stream: where it ran; "caller" for the thread that submits.
        frame, key: index of the frame, and of its key frame.
        start_ms, end_ms: since the trace began.
    """

    stage: str
    stream: str
    frame: int
    key: int
    start_ms: float
    end_ms: float


class Trace:
    """Collects spans, at most ``MAX_SPANS``; pass one to ``Pipeline.open``.

    Attributes:
        spans: those kept, each frame's together, in frame order.
        lost: number of spans that came when the trace was full.
    """

    def __init__(self) -> None:
        self.spans: list[StageSpan] = []
        self.lost = 0

    def add(self, span: StageSpan) -> None:
        """Keep a span, or count it."""
        if len(self.spans) < MAX_SPANS:
            self.spans.append(span)
        else:
            self.lost += 1

    def write(self, file: AtomicFile) -> None:
        """Write the trace as JSON; open it with https://ui.perfetto.dev or chrome://tracing."""
        file.write('{"displayTimeUnit": "ms", "traceEvents": [\n')
        events = self._events()
        separator = ""
        # A part at a time: a long trace is not built up in memory a second time.
        while part := list(islice(events, _EVENTS_PER_WRITE)):
            file.write(separator + ",\n".join(json.dumps(event) for event in part))
            separator = ",\n"
        file.write("\n]}\n")

    def _events(self) -> Iterator[dict[str, object]]:
        tracks: dict[str, int] = {}
        for span in self.spans:
            if span.stream not in tracks:
                track = tracks[span.stream] = len(tracks) + 1
                yield {
                    "ph": "M",
                    "name": "thread_name",
                    "pid": 1,
                    "tid": track,
                    "args": {"name": span.stream},
                }
            yield {
                "ph": "X",
                "name": f"{span.stage} {span.frame}",
                "cat": span.stage,
                "pid": 1,
                "tid": tracks[span.stream],
                "ts": round(span.start_ms * 1e3, 3),  # microseconds
                "dur": round((span.end_ms - span.start_ms) * 1e3, 3),
                "args": {"frame": span.frame, "key": span.key},
            }
