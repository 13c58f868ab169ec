"""Precision against recall of a detector's boxes, as PNG."""

from __future__ import annotations

from dff_edge.evaluation.score_threshold import BoxReport
from dff_edge.report.plot import LIGHT, Theme, add_legend, new_figure, png

_SIZE = (5.8, 4.6)  # inches
_LABELLED = 10  # classes with a colour and a name of their own; of more, lines are thin and grey


def draw_precision_recall(boxes: BoxReport, theme: Theme = LIGHT) -> bytes:
    """Draw a line for each class that occurs, and a mark on it at the threshold.

    Returns:
        A PNG file.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    figure, axes = new_figure(theme, _SIZE)
    shown = {name: own for name, own in boxes.classes.items() if own.recall is not None}
    is_crowded = len(shown) > _LABELLED
    for number, (name, own) in enumerate(shown.items()):
        colour = theme.muted if is_crowded else f"C{number}"
        axes.plot(
            100 * own.curve.recall,
            100 * own.curve.precision,
            linewidth=0.8 if is_crowded else 1.8,
            color=colour,
            label=None if is_crowded else name,
        )
        if own.precision is not None and own.recall is not None:
            axes.plot(
                [100 * own.recall],
                [100 * own.precision],
                marker="o",
                markersize=4 if is_crowded else 7,
                markeredgecolor=theme.background,
                linestyle="none",
                color=colour,
            )
    which = "the model's" if boxes.is_own else "the default"
    axes.set_title(
        f"marks: score {boxes.threshold:.2f} and more, {which} threshold",
        fontsize=9.5,
        color=theme.muted,
        loc="left",
    )
    axes.set_xlabel("recall, %")
    axes.set_ylabel("precision, %")
    axes.set_xlim(0, 102)
    axes.set_ylim(0, 102)
    if not is_crowded:
        add_legend(axes, theme)
    return png(figure)
