"""The picture of the frontier: accuracy against the time of a frame."""

from __future__ import annotations

from typing import Any

from dff_edge.experiment.figure3 import COLOURS
from dff_edge.experiment.frontier.results import Frontier, Row
from dff_edge.report.plot import LIGHT, Theme, add_legend, new_figure, png, use_log_axis

_SIZE = (6.8, 4.6)  # inches
_LIVE_MARKER = "*"
_RIVALS = {"smaller": "s", "light": "D"}  # markers by role


def draw_frontier(results: Frontier, theme: Theme = LIGHT) -> bytes:
    """Draw a curve for each way to run a key network, a point for each other network.

    Solid: Deep Feature Flow; dashed: hand-crafted flow; dotted: answers held; a star: key frames
    in the background.

    Returns:
        A PNG file.
    """
    figure, axes = new_figure(theme, _SIZE)
    rows = results.rows
    names = list(dict.fromkeys(row.network for row in rows if row.role == "dff"))
    for name, colour in zip(names, _repeated(len(names)), strict=True):
        own = [row for row in rows if row.network == name]
        starts = [row for row in own if row.method == "frame"]
        curves: dict[str, list[Row]] = {}
        for row in own:
            if row.method in ("dff", "held"):
                curves.setdefault(row.curve, [*starts]).append(row)
        for title, points in curves.items():
            _draw_curve(axes, title, points, colour)
        for row in own:
            if row.method == "background":
                axes.plot(
                    [row.ms],
                    [100 * row.accuracy],
                    marker=_LIVE_MARKER,
                    markersize=11,
                    linestyle="none",
                    color=colour,
                    label=row.curve,
                )
    rivals = sorted((row for row in rows if row.role in _RIVALS), key=lambda row: row.ms)
    for number, row in enumerate(rivals):
        axes.plot(
            [row.ms],
            [100 * row.accuracy],
            marker=_RIVALS[row.role],
            linestyle="none",
            color=theme.ink if row.role == "light" else theme.muted,
        )
        # In turns, as networks of about the same time and accuracy would hide each other's.
        _label(axes, row.network, row, theme.ink, below=True, to_the_left=number % 2 == 0)
    use_log_axis(axes, [row.ms for row in rows])
    axes.set_xlabel("ms a frame, INT8")
    axes.set_ylabel(f"{results.metric} (numbers: key interval \u2113), %")
    add_legend(axes, theme)
    return png(figure)


def _repeated(count: int) -> list[str]:
    return [COLOURS[number % len(COLOURS)] for number in range(count)]


def _draw_curve(axes: Any, title: str, rows: list[Row], colour: str) -> None:
    last = rows[-1]
    style = ":" if last.method == "held" else "-" if last.flow == "network" else "--"
    axes.plot(
        [row.ms for row in rows],
        [100 * row.accuracy for row in rows],
        marker="o",
        markersize=4,
        linestyle=style,
        color=colour,
        label=title,
    )
    if last.method == "dff" and last.flow == "network":
        for row in rows:
            _label(axes, str(row.interval), row, colour)


def _label(
    axes: Any,
    text: str,
    row: Row,
    colour: str,
    *,
    below: bool = False,
    to_the_left: bool = False,
) -> None:
    axes.annotate(
        text,
        (row.ms, 100 * row.accuracy),
        xytext=(-4 if to_the_left else 4, -11 if below else 4),
        textcoords="offset points",
        horizontalalignment="right" if to_the_left else "left",
        fontsize=8,
        color=colour,
    )
