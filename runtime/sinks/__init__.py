"""Where results go: `open_sink` and what it gives; `FanOut` for several of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dff_edge.runtime.contract import Task
from dff_edge.runtime.lettering import Colours
from dff_edge.runtime.lifetime import closes_itself
from dff_edge.runtime.sinks.base import NullSink, Sink
from dff_edge.runtime.sinks.drawing import SHOWN_SCORE
from dff_edge.runtime.sinks.fan_out import FanOut, SinkReport
from dff_edge.runtime.uri import parse_sink

__all__ = ["SHOWN_SCORE", "FanOut", "Sink", "SinkReport", "open_sink"]


@closes_itself
def open_sink(
    uri: str | Path,
    *,
    classes: Sequence[str],
    colours: Colours,
    fps: float | None,
    source: str | Path | None = None,
    task: Task = "segmentation",
    min_score: float = SHOWN_SCORE,
) -> Sink:
    """Open a sink of results by its URI (see `dff_edge.runtime.uri`).

    Args:
        uri: ``out.mp4``, ``out.jsonl``, ``labels://FOLDER``, ``display://`` or ``null://``.
        classes: names of the classes, by index.
        colours: ``(red, green, blue)`` of the classes, by index.
        fps: nominal rate of the source; None is taken as 30.
        source: the source's URI, so that it is not written over.
        task: what the results will be of.
        min_score: detections that score less are neither drawn nor written.

    Returns:
        An open sink; close it, or use it in a ``with`` block.

    Raises:
        ConfigError: the URI is not one.
        SinkError: the place cannot be written to, a codec or a display is missing, or it takes no
            results of the task.
    """
    parsed = parse_sink(uri)
    if parsed.kind == "null":
        return NullSink(parsed.text)
    if parsed.kind == "display":
        from dff_edge.runtime.sinks.display import DisplaySink

        return DisplaySink(parsed.text, classes, colours, min_score=min_score)
    assert parsed.path is not None  # of all other kinds
    if parsed.kind == "labels":
        from dff_edge.runtime.sinks.labels import LabelSink, no_label_maps

        if task == "detection":
            raise no_label_maps(parsed.text)
        return LabelSink(parsed.text, parsed.path, source)
    if parsed.kind == "jsonl":
        from dff_edge.runtime.sinks.jsonl import JsonLinesSink

        return JsonLinesSink(parsed.text, parsed.path, classes, source, min_score=min_score)
    from dff_edge.runtime.sinks.video import VideoSink  # loads FFmpeg: only here

    return VideoSink(parsed.text, parsed.path, classes, colours, fps, source, min_score=min_score)
