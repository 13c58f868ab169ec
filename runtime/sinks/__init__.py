"""Sinks of results: `open_sink`, and `FanOut` for several of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dff_edge.bundle.tasks import TaskName
from dff_edge.errors import ConfigError
from dff_edge.lifetime import closes_itself
from dff_edge.runtime.drawing.style import DEFAULT_STYLE, SHOWN_SCORE, Style
from dff_edge.runtime.drawing.text import Colours
from dff_edge.runtime.sinks.base import NullSink, Sink
from dff_edge.runtime.sinks.fan_out import FanOut, SinkReport
from dff_edge.runtime.sinks.names import SinkUri, parse_sink
from dff_edge.runtime.tasks import RUNTIME_TASKS

__all__ = ["SHOWN_SCORE", "FanOut", "Sink", "SinkReport", "Style", "open_sink"]


@closes_itself
def open_sink(
    uri: str | Path | SinkUri,
    *,
    classes: Sequence[str],
    colours: Colours,
    fps: float | None,
    source: str | Path | None = None,
    task: TaskName = "segmentation",
    style: Style = DEFAULT_STYLE,
) -> Sink:
    """Open a sink of results by its URI (see `dff_edge.runtime.sinks.names`).

    Opening a sink changes no existing file: the place is claimed for this run, and written to
    when the first result comes.

    Args:
        uri: ``out.mp4``, ``out.jsonl``, ``frames/%06d.png``, ``out.png``, ``labels://FOLDER``,
            ``display://`` or ``null://``; or the same, parsed.
        classes: names of the classes, by index.
        colours: ``(red, green, blue)`` of the classes, by index.
        fps: nominal rate of the source; None stands for 30.
        source: the source's URI, so that it is not overwritten.
        task: the task of the results.
        style: which parts are drawn, and how; detections below its ``least_score`` are not
            written to lines either. ``Style().of_bundle(manifest)`` has a bundle's threshold.

    Returns:
        An open sink; close it, or use it in a ``with`` block.

    Raises:
        ConfigError: the URI is invalid, or is a pattern for several sources.
        SinkError: the place cannot be written to or belongs to another run, a codec or a display
            is missing, or it does not support the task.
    """
    parsed = uri if isinstance(uri, SinkUri) else parse_sink(uri)
    if parsed.kind == "null":
        return NullSink(parsed.text)
    if parsed.kind == "display":
        from dff_edge.runtime.sinks.display import DisplaySink

        return DisplaySink(parsed.text, classes, colours, style=style)
    assert parsed.path is not None  # of all other kinds
    if parsed.is_for_each:
        raise ConfigError(
            f"'{parsed.text}' is a folder or a pattern for several sources; name the file of this "
            "one, for example out.mp4"
        )
    if parsed.kind == "labels":
        from dff_edge.runtime.sinks.labels import LabelSink, no_label_maps

        if not RUNTIME_TASKS.find(task).gives_label_maps:
            raise no_label_maps(parsed.text, task)
        return LabelSink(parsed.text, parsed.path, source, replace=parsed.replace)
    if parsed.kind == "jsonl":
        from dff_edge.runtime.sinks.jsonl import JsonLinesSink

        return JsonLinesSink(parsed.text, parsed.path, classes, source, min_score=style.least_score)
    if parsed.kind in ("pictures", "picture"):
        from dff_edge.runtime.sinks.pictures import PictureSink, PicturesSink

        how = (parsed.text, parsed.path, classes, colours, source)
        if parsed.kind == "picture":
            return PictureSink(*how, style=style)
        return PicturesSink(*how, style=style, replace=parsed.replace)
    from dff_edge.runtime.sinks.video import VideoSink  # loads FFmpeg: only here

    return VideoSink(parsed.text, parsed.path, classes, colours, fps, source, style=style)
