"""One JSON object per line and frame, for programs that read along."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dff_edge.frames import Result
from dff_edge.runtime.drawing.style import SHOWN_SCORE
from dff_edge.runtime.sinks.base import FileSink
from dff_edge.runtime.tasks import RUNTIME_TASKS


class JsonLinesSink(FileSink):
    """Writes index, stamp, segment, key frame, times, and the result's fields by ``Task.record``.

    For segmentation that is ``classes``, the share of pixels of each class; for detection
    ``objects``, by falling score, each with ``class``, ``score`` and ``box``, ``[x_min, y_min,
    x_max, y_max]`` in pixels with exclusive maxima.

    ``age_ms`` is the time from the frame's capture to its result, null where the source is not
    live; ``latency_ms`` from its ``submit``; the other names are those of ``Frame`` and ``Result``.
    Each line is handed to the system at once, and is complete: a line that does not fit on the
    disk is removed again. For the file see ``OutputFile``.
    """

    def __init__(
        self,
        uri: str,
        path: Path,
        classes: Sequence[str],
        source: str | Path | None = None,
        *,
        min_score: float = SHOWN_SCORE,
    ) -> None:
        super().__init__(path, uri, source)
        self._min_score = min_score
        self._classes = tuple(classes)
        self._size = 0  # not queried from the file: a named pipe has no size

    def _write(self, result: Result) -> None:
        record: dict[str, Any] = {
            "index": result.frame.index,
            "stamp_s": round(result.frame.stamp_s, 6),
            "segment": result.frame.segment,
            "key_index": result.key_index,
            "is_key": result.is_key,
            "key_distance": result.key_distance,
            "key_age_ms": round(result.key_age_s * 1000, 3),
            "age_ms": None if result.age_s is None else round(result.age_s * 1000, 3),
            "latency_ms": round(result.latency_s * 1000, 3),
            "expected_disagreement": None
            if result.expected_disagreement is None
            else round(result.expected_disagreement, 4),
            "stage_ms": {stage: round(ms, 3) for stage, ms in result.stage_ms.items()},
        }
        task = RUNTIME_TASKS.find(result.task)
        record |= task.record(result.answer, self._classes, self._min_score)
        line = (json.dumps(record, ensure_ascii=False) + "\n").encode()
        try:
            self._file.write(line)
        except OSError:
            self._file.cut(self._size)
            raise
        self._size += len(line)

    def _finish(self, *, has_failed: bool) -> None:
        self._file.close(is_whole=not has_failed)

    def _kept(self) -> str:
        return self._file.what_stays()
