"""Plots of live runs: ages of answers over time, and the cost of agreeing with the full network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from dff_edge.names import Precision
from dff_edge.report.plot import LIGHT, Theme, add_legend, new_figure, png

_WIDE = (8.0, 3.2)  # inches
_WIDE_DPI = 110  # thousands of answers make a large file
_SIZE = (5.8, 4.1)
_COLOURS: tuple[Precision, ...] = ("int8", "fp16", "fp32")  # of a theme
_LABELS = ((6, -11), (8, -3), (-6, 5))  # of a line's points, in points from them


class Aged(NamedTuple):
    """An answer of a live run.

    Attributes:
        captured_s: when its frame was captured, since the camera began.
        age_ms: from then until the answer was ready.
    """

    captured_s: float
    age_ms: float


class Bought(NamedTuple):
    """Agreement with the full network, and its cost.

    Attributes:
        name: of the setting, written beside the point.
        cost_ms: time of a frame, in the mean.
        agreement: share of the answers that is the full network's, 0..1.
    """

    name: str
    cost_ms: float
    agreement: float


def draw_ages(runs: Mapping[str, Sequence[Aged]], theme: Theme = LIGHT) -> bytes:
    """Draw the age of each answer at the time of its capture, a line for each run.

    Args:
        runs: up to three, by name.
        theme: colours.

    Returns:
        A PNG file.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    figure, axes = new_figure(theme, _WIDE)
    for colour, (name, answers) in zip(_COLOURS, runs.items(), strict=False):
        axes.plot(
            [answer.captured_s for answer in answers],
            [answer.age_ms for answer in answers],
            linewidth=0.9,
            color=theme.lines[colour],
            label=name,
        )
    axes.set_ylim(bottom=0)
    axes.set_xlabel("capture, s")
    axes.set_ylabel("age of the answer, ms")
    add_legend(axes, theme)
    return png(figure, _WIDE_DPI)


def draw_agreement(lines: Mapping[str, Sequence[Bought]], theme: Theme = LIGHT) -> bytes:
    """Draw agreement with the full network against its cost, a line for each kind of policy.

    Args:
        lines: up to three, by name; their points in any order.
        theme: colours.

    Returns:
        A PNG file.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    figure, axes = new_figure(theme, _SIZE)
    for colour, place, (name, points) in zip(_COLOURS, _LABELS, lines.items(), strict=False):
        ordered = sorted(points, key=lambda point: point.cost_ms)
        axes.plot(
            [point.cost_ms for point in ordered],
            [100 * point.agreement for point in ordered],
            marker="o",
            markersize=5,
            linewidth=1.8,
            color=theme.lines[colour],
            label=name,
        )
        for point in ordered:
            axes.annotate(
                point.name,
                (point.cost_ms, 100 * point.agreement),
                xytext=place,
                textcoords="offset points",
                ha="left" if place[0] > 0 else "right",
                fontsize=8,
                color=theme.lines[colour],
            )
    axes.margins(0.12)
    axes.set_xlabel("time of a frame, ms")
    axes.set_ylabel("agreement with the full network, %")
    add_legend(axes, theme)
    return png(figure)
