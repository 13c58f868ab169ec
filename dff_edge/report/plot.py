"""Plots as PNG, drawn without a display and without matplotlib's global state."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dff_edge.errors import require
from dff_edge.names import PRECISIONS, Precision
from dff_edge.report.repeated import repeated
from dff_edge.report.results import Benchmark, Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LOG_RATIO = 8.0  # fastest by slowest: from here on a linear axis would squeeze the slow ones
_MARKERS: dict[Precision, str] = {"fp32": "o", "fp16": "s", "int8": "D"}
_SIZE = (5.8, 4.1)  # inches
_DPI = 180
# Where precisions are equally accurate, their curves by distance coincide: all must be visible.
_WIDTHS: dict[Precision, float] = {"fp32": 4.0, "fp16": 2.2, "int8": 1.2}


@dataclass(frozen=True)
class Theme:
    """Colours of a plot; ``background`` may be "none" for a transparent one."""

    background: str
    ink: str
    muted: str
    grid: str
    lines: dict[Precision, str]


LIGHT = Theme(
    background="#ffffff",
    ink="#17202a",
    muted="#5b6875",
    grid="#e3e8ed",
    lines={"fp32": "#44546a", "fp16": "#c47f17", "int8": "#0b7a6b"},
)
DARK = Theme(
    background="#171d24",
    ink="#e8edf2",
    muted="#9aa7b4",
    grid="#2c353f",
    lines={"fp32": "#a9b8ca", "fp16": "#e5ac4f", "int8": "#3fc2ae"},
)


def check_plotting() -> None:
    """Raise early where plots cannot be drawn.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    require("matplotlib", extra="report", purpose="Drawing plots")


def draw_speed(benchmark: Benchmark, theme: Theme = LIGHT) -> bytes:
    """Accuracy against speed, a line for each precision and a point for each key interval.

    A thin line through each point is the range of its speed.

    Returns:
        A PNG file.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    figure, axes = new_figure(theme, _SIZE)
    labelled: set[int] = set()
    for precision, rows in _by_precision(benchmark):
        points = [(row.fps, 100 * row.accuracy, row) for row in rows if row.accuracy is not None]
        if not points:
            continue
        xs, ys = [x for x, _, _ in points], [y for _, y, _ in points]
        _line(axes, xs, ys, _label(precision, benchmark), precision, theme)
        for _, y, row in points:
            fps = repeated([row.frames / seconds for seconds in row.seconds])
            axes.plot([fps.low, fps.high], [y, y], linewidth=1, color=theme.lines[precision])
        # Lines fall to the right, FP32 has others beside it there: its labels go to the left.
        is_left = precision == "fp32"
        for x, y, row in points:
            if precision == "fp16" and row.interval in labelled:
                continue  # as accurate as FP32, often as fast: the labels would overlap
            labelled.add(row.interval)
            axes.annotate(
                f"\u2113 = {row.interval}",
                (x, y),
                xytext=(-7, -4) if is_left else (7, 4),
                textcoords="offset points",
                ha="right" if is_left else "left",
                va="top" if is_left else "bottom",
                fontsize=8.5,
                color=theme.lines[precision],
            )
    speeds = [row.fps for row in benchmark.rows]
    if max(speeds) > _LOG_RATIO * min(speeds):
        use_log_axis(axes, speeds)
    else:
        axes.set_xlim(0, 1.15 * max(speeds))
    axes.set_xlabel("frames per second")
    axes.set_ylabel(f"{benchmark.settings.metric} (DFF at \u2113), %")
    axes.margins(y=0.18)
    add_legend(axes, theme)
    return png(figure)


def draw_distance(benchmark: Benchmark, theme: Theme = LIGHT) -> bytes:
    """Accuracy by distance from the key frame, a line for each precision.

    Returns:
        A PNG file.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    figure, axes = new_figure(theme, _SIZE)
    for precision in PRECISIONS:
        if precision not in benchmark.accuracy:
            continue
        values = benchmark.accuracy[precision].at_distance
        points = [(d, 100 * value) for d, value in enumerate(values) if value is not None]
        xs, ys = [d for d, _ in points], [y for _, y in points]
        _line(axes, xs, ys, _label(precision, benchmark), precision, theme, _WIDTHS[precision])
    axes.set_xlabel("frames since the key frame")
    axes.set_ylabel(f"{benchmark.settings.metric}, %")
    axes.set_xticks(range(benchmark.settings.max_interval))
    axes.margins(y=0.15)
    add_legend(axes, theme)
    return png(figure)


def _by_precision(benchmark: Benchmark) -> Iterable[tuple[Precision, list[Row]]]:
    for precision in PRECISIONS:
        rows = [row for row in benchmark.rows if row.precision == precision]
        if rows:
            yield precision, rows


def new_figure(theme: Theme, size: tuple[float, float]) -> tuple[Figure, Axes]:
    check_plotting()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=_DPI, layout="constrained", facecolor=theme.background)
    FigureCanvasAgg(figure)
    axes: Any = figure.subplots()
    axes.set_facecolor(theme.background)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(theme.grid)
    axes.tick_params(colors=theme.muted, length=0, labelsize=9)
    axes.grid(color=theme.grid, linewidth=0.8)
    axes.set_axisbelow(True)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set_color(theme.muted)
        label.set_size(9.5)
    return figure, axes


def _line(
    axes: Axes,
    xs: list[Any],
    ys: list[float],
    label: str,
    precision: Precision,
    theme: Theme,
    width: float = 1.8,
) -> None:
    axes.plot(
        xs,
        ys,
        marker=_MARKERS[precision],
        markersize=4.5 + width,
        markeredgecolor=theme.background,
        linewidth=width,
        linestyle="--" if precision == "fp16" else "-",
        color=theme.lines[precision],
        label=label,
    )


def _label(precision: Precision, benchmark: Benchmark) -> str:
    is_emulated = precision == "fp16" and benchmark.is_fp16_emulated
    return precision.upper() + (" (emulated)" if is_emulated else "")


def use_log_axis(axes: Axes, values: list[float]) -> None:
    from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlim(min(values) / 1.5, max(values) * 1.5)


def add_legend(axes: Axes, theme: Theme) -> None:
    if axes.lines:
        axes.legend(frameon=False, fontsize=9, labelcolor=theme.ink, loc="best")


def png(figure: Figure, dpi: int = _DPI) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", facecolor=figure.get_facecolor(), dpi=dpi)
    return buffer.getvalue()
