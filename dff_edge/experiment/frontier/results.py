"""Results of the frontier: its rows, and how its curves stand to the networks on every frame."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from dff_edge.experiment.frontier.config import Role
from dff_edge.experiment.frontier.curve import Point, points_ahead, speed_ratio
from dff_edge.experiment.frontier.live import LiveRun
from dff_edge.experiment.results import markdown_table
from dff_edge.names import FlowFunction
from dff_edge.report.machine import Machine

# How frames that are no key frames are answered; "frame" has none.
Method = Literal["frame", "dff", "held", "background"]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Row(_Record):
    """A point: a network, and a way to run it.

    Attributes:
        network: its name.
        role: of the network.
        method: how the frames between key frames are answered: not at all ("frame"), by Deep
            Feature Flow, by the answer of the key frame ("held"), or by Deep Feature Flow while
            features are computed in the background.
        flow: source of the flow; None where there is none.
        interval: key interval l; None in the background, where a key frame is begun as soon as the
            one before is done.
        accuracy: 0..1.
        ms: time of a frame, the mean over all; in the background that of an answer.
        live: of key frames in the background.
    """

    network: str
    role: Role
    method: Method
    flow: FlowFunction | None = None
    interval: int | None = 1
    accuracy: float
    ms: float
    live: LiveRun | None = None

    @property
    def curve(self) -> str:
        """Title of the curve that it is a point of."""
        return f"{self.network}, {self.how}"

    @property
    def how(self) -> str:
        """How it is run, for people."""
        flow = "" if self.flow in (None, "network") else f", flow of {self.flow}"
        return {
            "frame": "every frame",
            "dff": f"DFF{flow}",
            "held": "answers held",
            "background": "DFF in the background",
        }[self.method]

    @property
    def point(self) -> Point:
        """Its time and accuracy."""
        return Point(self.ms, self.accuracy)


class Comparison(_Record):
    """A curve against a network on every frame.

    Attributes:
        curve: title of the curve.
        is_dff: whether it is Deep Feature Flow with its flow network.
        rival: name of the network.
        role: of the rival.
        speed_ratio: frames per second of the curve at the rival's accuracy, over the rival's; None
            where it nowhere is as accurate.
        points: accuracy of the curve in the rival's time less the rival's, 0..1; None where it
            nowhere is as fast.
    """

    curve: str
    is_dff: bool
    rival: str
    role: Role
    speed_ratio: float | None
    points: float | None


class Frontier(_Record):
    """All results.

    Attributes:
        metric: the measure of accuracy, such as "mIoU".
        frames_before: frames that each scored frame has before it: all rows have the same ones.
        rows: of the table.
        comparisons: each curve with each network on every frame that is no key network.
        rival: the best light network: the most accurate one; None where there is none.
        frontier_speed_ratio: the largest one of Deep Feature Flow against it; None where no curve
            is as accurate, or there is no rival.
        frontier_points: likewise, accuracy ahead of it in its time, 0..1.
        config: the configuration.
        machine: the machine that times were measured on.
    """

    metric: str
    frames_before: int
    rows: tuple[Row, ...]
    comparisons: tuple[Comparison, ...]
    rival: str | None
    frontier_speed_ratio: float | None
    frontier_points: float | None
    config: dict[str, Any]
    machine: Machine

    def markdown(self) -> str:
        """Return the table, the comparisons, and what they say of the best light network."""
        lines = markdown_table(
            ["network", "run as", "l", f"{self.metric} %", "ms a frame", "frames/s"],
            [
                [
                    row.network,
                    row.how,
                    str(row.interval or "idle"),
                    f"{100 * row.accuracy:.1f}",
                    f"{row.ms:.2f}",
                    f"{1e3 / row.ms:.1f}" if row.live is None else "-",
                ]
                for row in self.rows
            ],
        )
        lines += ["", f"{self.metric} and time of INT8. Speed: {self.machine}."]
        if self.machine.is_busy:
            lines += [f"Other programs kept {self.machine.busy_cores} cores busy meanwhile."]
        lines += [_told(row.network, row.live) for row in self.rows if row.live is not None]
        if self.comparisons:
            lines += ["", *self._comparisons()]
        if self.rival is not None:
            lines += ["", self._told_of(self.rival)]
        return "\n".join(lines) + "\n"

    def _comparisons(self) -> list[str]:
        return markdown_table(
            ["curve", "against", "frames/s at its accuracy", "points in its time"],
            [
                [
                    item.curve,
                    f"{item.rival} ({item.role})",
                    "-" if item.speed_ratio is None else f"{item.speed_ratio:.2f}x",
                    "-" if item.points is None else f"{100 * item.points:+.1f}",
                ]
                for item in self.comparisons
            ],
        )

    def _told_of(self, name: str) -> str:
        rival = next(row for row in self.rows if row.network == name)
        ratio, points = self.frontier_speed_ratio, self.frontier_points
        ahead = None if points is None else 100 * points
        at_its_accuracy = (
            "Deep Feature Flow does not reach its accuracy."
            if ratio is None
            else f"At its accuracy Deep Feature Flow answers {ratio:.2f} times as many frames a "
            "second."
        )
        in_its_time = (
            "Deep Feature Flow is nowhere as fast."
            if ahead is None
            else f"In its time Deep Feature Flow is {abs(ahead):.1f} points "
            f"{'better' if ahead >= 0 else 'worse'}."
        )
        return (
            f"The best light network is {name}: {100 * rival.accuracy:.1f} {self.metric} in "
            f"{rival.ms:.2f} ms a frame. {at_its_accuracy} {in_its_time}"
        )


def compare(rows: Sequence[Row]) -> tuple[Comparison, ...]:
    """Compare each curve with each network that answers every frame and is no key network.

    A curve begins at l = 1 with its key network on every frame.
    """
    curves: dict[str, list[Row]] = {}
    for row in rows:
        if row.method in ("dff", "held"):
            curves.setdefault(row.curve, []).append(row)
    found = []
    for title, own in curves.items():
        starts = [r for r in rows if r.method == "frame" and r.network == own[0].network]
        points = [row.point for row in (*starts, *own)]
        for rival in rows:
            if rival.role != "dff":
                found.append(
                    Comparison(
                        curve=title,
                        is_dff=own[0].method == "dff" and own[0].flow == "network",
                        rival=rival.network,
                        role=rival.role,
                        speed_ratio=speed_ratio(points, rival.point),
                        points=points_ahead(points, rival.point),
                    )
                )
    return tuple(found)


def best_rival(rows: Sequence[Row]) -> str | None:
    """Return the name of the most accurate light network, the faster of two; None without one."""
    light = [row for row in rows if row.role == "light"]
    if not light:
        return None
    return max(light, key=lambda row: (row.accuracy, -row.ms)).network


def best_of_dff(
    comparisons: Sequence[Comparison],
    rival: str | None,
    figure: Callable[[Comparison], float | None],
) -> float | None:
    """Return the largest figure of Deep Feature Flow against a rival; None where there is none."""
    values = [figure(item) for item in comparisons if item.is_dff and item.rival == rival]
    return max((value for value in values if value is not None), default=None)


def _told(network: str, live: LiveRun) -> str:
    frames = "1 frame" if live.lag == 1 else f"{live.lag} frames"
    return (
        f"{network} in the background: features are used {frames} late; {live.answered_share:.1%} "
        f"of the frames answered, 99% of the answers within {live.age_p99_ms:.0f} ms of capture."
    )
