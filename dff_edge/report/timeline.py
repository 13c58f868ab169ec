"""A trace as a picture: a lane for each stream, a block for each stage, key frames marked."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from dff_edge.errors import require
from dff_edge.files.atomic import AtomicFile
from dff_edge.report.plot import LIGHT, Theme
from dff_edge.report.stages import STAGE_COLOURS
from dff_edge.runtime.trace import StageSpan, Trace

# Lanes, from the top.
STREAMS = ("caller", "copy in", "networks", "feature", "flow", "task", "copy out", "decode")
NETWORK_STREAMS = ("networks", "feature", "flow", "task")
_SIZE = (11, 3.4)  # inches
_DPI = 150
# Parts of the width: no block is drawn narrower than the one; an edge, which would hide a narrow
# one, is drawn from the other.
_THINNEST, _EDGED = 0.001, 0.005


def overlapped_share(spans: Sequence[StageSpan]) -> float:
    """Return the part of the busy time with two or more active streams; 0 of an empty trace."""
    edges = sorted(edge for span in spans for edge in ((span.start_ms, 1), (span.end_ms, -1)))
    busy_ms = overlapped_ms = 0.0
    running, last_ms = 0, 0.0
    for time_ms, change in edges:
        busy_ms += (time_ms - last_ms) * (running > 0)
        overlapped_ms += (time_ms - last_ms) * (running > 1)
        running, last_ms = running + change, time_ms
    return overlapped_ms / busy_ms if busy_ms else 0.0


def write_timeline(trace: Trace, file: Path | AtomicFile) -> None:
    """Write a trace to a file: of its latest frames a .png, else JSON for Perfetto.

    Raises:
        SinkError: it cannot be written.
        MissingDependencyError: matplotlib is not installed.
    """
    with file if isinstance(file, AtomicFile) else AtomicFile(file) as opened:
        if opened.path.suffix == ".png":
            opened.write(draw_timeline(trace.spans))
        else:
            trace.write(opened)
        opened.commit()


def draw_timeline(spans: Sequence[StageSpan], *, frames: int = 24, theme: Theme = LIGHT) -> bytes:
    """Draw the latest frames of a trace, and all that ran meanwhile.

    Args:
        spans: of one run, in frame order.
        frames: maximum number of frames shown.
        theme: colours around the blocks.

    Returns:
        A PNG file.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    require("matplotlib", extra="report", purpose="Drawing a timeline")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    shown = set(sorted({span.frame for span in spans})[-frames:])
    first_ms = min((span.start_ms for span in spans if span.frame in shown), default=0.0)
    # By time: features that come late are those of an older frame.
    spans = [span for span in spans if span.end_ms > first_ms]
    all_ms = max((span.end_ms for span in spans), default=1.0) - first_ms
    figure = Figure(figsize=_SIZE, dpi=_DPI, facecolor=theme.background, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(facecolor=theme.background)
    lanes = [name for name in STREAMS if any(span.stream == name for span in spans)]
    for span in spans:
        start, width = span.start_ms - first_ms, span.end_ms - span.start_ms
        lane = lanes.index(span.stream)
        axes.broken_barh(
            [(start, max(width, _THINNEST * all_ms))],
            (lane - 0.38, 0.76),
            facecolor=STAGE_COLOURS[span.stage],
            edgecolor=theme.background,
            linewidth=0.6 if width > _EDGED * all_ms else 0,
        )
        if span.stage == "feature" and span.frame == span.key:
            axes.text(
                (max(start, 0) + start + width) / 2,
                lane,
                f"key {span.frame}",
                ha="center",
                va="center",
                fontsize=8,
                color="#ffffff",
                clip_on=True,
            )
    axes.set_yticks(range(len(lanes)), lanes)
    axes.set_ylim(max(1, len(lanes)) - 0.5, -0.5)
    axes.set_xlim(0, all_ms)
    axes.set_xlabel(
        f"ms; {len(shown)} frames, two streams or more at work in {overlapped_share(spans):.0%} of "
        "the busy time",
        fontsize=9,
        color=theme.muted,
    )
    axes.tick_params(colors=theme.muted, length=0, labelsize=9)
    for side in axes.spines.values():
        side.set_visible(False)
    axes.grid(axis="x", color=theme.grid, linewidth=0.6)
    axes.set_axisbelow(True)
    stages = [stage for stage in STAGE_COLOURS if any(span.stage == stage for span in spans)]
    if stages:
        axes.legend(
            handles=[Patch(facecolor=STAGE_COLOURS[stage], label=stage) for stage in stages],
            loc="lower left",
            bbox_to_anchor=(-0.01, 1.0),
            ncols=len(stages),
            frameon=False,
            fontsize=9,
            labelcolor=theme.ink,
        )
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", facecolor=theme.background)
    return buffer.getvalue()
