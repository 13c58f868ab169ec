"""Results of an experiment: rows and orderings, and their table with the paper's beside ours."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from dff_edge.experiment.ordering import Difference, Verdict, compare
from dff_edge.report.machine import Machine

_RULE = (
    "Better or worse: all seeds agree, and the mean of the differences, paired over seeds, is more "
    "than twice its standard error."
)


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Row(_Record):
    """A row of a table.

    Attributes:
        name: key of the row, the same in each run of the experiment.
        title: its title in the table.
        interval: key interval l.
        accuracy: 0..1, one for each seed.
        fps: frames per second; None where the pipeline has no such mode.
        paper_accuracy: the paper's, in %; None where it has no such row.
        paper_fps: the paper's.
    """

    name: str
    title: str
    interval: int
    accuracy: tuple[float, ...]
    fps: float | None = None
    paper_accuracy: float | None = None
    paper_fps: float | None = None

    @property
    def mean(self) -> float:
        """Mean accuracy over the seeds, 0..1."""
        return statistics.fmean(self.accuracy)

    @property
    def spread(self) -> float | None:
        """Standard deviation over the seeds; None for one seed."""
        return statistics.stdev(self.accuracy) if len(self.accuracy) > 1 else None


class Ordering(_Record):
    """Comparison of two rows.

    Attributes:
        first, second: names of the rows.
        mean: mean over the seeds of first minus second, 0..1.
        standard_error: of the mean; None for one seed.
        verdict: of the first row, by the rule of ``ordering.py``.
    """

    first: str
    second: str
    mean: float
    standard_error: float | None
    verdict: Verdict


class Results(_Record):
    """All results of an experiment.

    Attributes:
        experiment: "table4", ...
        metric: the measure of accuracy, "mIoU" or "mAP".
        seeds: in the order of each row's accuracies.
        rows: of the table. Speed-ups are over per-frame evaluation: the row of the same title at
            l = 1 where a title has several rows, else the first row, if that is at l = 1.
        orderings: the paper's claims about the rows, checked here.
        config: the experiment's configuration.
        machine: the machine that speeds were measured on.
    """

    experiment: str
    metric: str
    seeds: tuple[int, ...]
    rows: tuple[Row, ...]
    orderings: tuple[Ordering, ...]
    config: dict[str, Any]
    machine: Machine

    def markdown(self) -> str:
        """Return the table, the paper's numbers beside ours, and the orderings."""
        metric = self.metric
        ours = [metric + " %", "fps", "speed-up"]
        lines = markdown_table(
            ["method", "l", *ours, *(f"paper: {title}" for title in ours)],
            [
                [
                    row.title,
                    str(row.interval),
                    _accuracy(row),
                    number(row.fps, 1),
                    _ratio(row, self._base(row), "fps"),
                    number(row.paper_accuracy, 1),
                    number(row.paper_fps, 2),
                    _ratio(row, self._base(row), "paper_fps"),
                ]
                for row in self.rows
            ],
        )
        seeds = ", ".join(map(str, self.seeds))
        several = "mean ± standard deviation over seeds" if len(self.seeds) > 1 else "seed"
        lines += ["", f"{metric}: {several} {seeds}. Speed: {self.machine}."]
        if self.machine.is_busy:
            lines += [f"Other programs kept {self.machine.busy_cores} cores busy meanwhile."]
        if self.orderings:
            lines += ["", *self._orderings(), "", _RULE]
        return "\n".join(lines) + "\n"

    def _base(self, row: Row) -> Row | None:
        own = [other for other in self.rows if other.title == row.title]
        bases = own if len(own) > 1 else self.rows[:1]
        return next((base for base in bases if base.interval == 1), None)

    def _orderings(self) -> list[str]:
        titles = {row.name: row.title for row in self.rows}
        return markdown_table(
            ["", "against", "difference, points", "standard error", "is"],
            [
                [
                    titles[item.first],
                    titles[item.second],
                    f"{100 * item.mean:+.2f}",
                    number(item.standard_error and 100 * item.standard_error, 2),
                    item.verdict,
                ]
                for item in self.orderings
            ],
        )


def order(rows: Sequence[Row], pairs: Sequence[tuple[str, str]]) -> tuple[Ordering, ...]:
    """Compare rows by name; pairs with a missing row are left out."""
    by_name = {row.name: row for row in rows}
    found = []
    for first, second in pairs:
        if first in by_name and second in by_name:
            difference: Difference = compare(by_name[first].accuracy, by_name[second].accuracy)
            has_error = difference.verdict != "one seed"
            found.append(
                Ordering(
                    first=first,
                    second=second,
                    mean=difference.mean,
                    standard_error=difference.standard_error if has_error else None,
                    verdict=difference.verdict,
                )
            )
    return tuple(found)


def markdown_table(headers: list[str], rows: list[list[str]]) -> list[str]:
    """Return the lines of a Markdown table, first column to the left, the others to the right."""
    widths = [max(3, *(len(row[i]) for row in [headers, *rows])) for i in range(len(headers))]

    def line(cells: list[str]) -> str:
        others = (cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True))
        return f"| {' | '.join([cells[0].ljust(widths[0]), *others])} |"

    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return [line(headers), line(rule), *map(line, rows)]


def _accuracy(row: Row) -> str:
    spread = "" if row.spread is None else f" ± {100 * row.spread:.1f}"
    return f"{100 * row.mean:.1f}{spread}"


def number(value: float | None, digits: int) -> str:
    """Return a cell, a dash for an unknown value."""
    return "-" if value is None else f"{value:.{digits}f}"


def _ratio(row: Row, base: Row | None, speed: Literal["fps", "paper_fps"]) -> str:
    value, over = getattr(row, speed), getattr(base, speed, None)
    return "-" if value is None or over is None else f"{value / over:.2f}x"
