"""Loss and validation of a run so far as a picture, ``curves.png`` in its folder.

It is drawn from the logs of all its stages, so that it is whole after a resume too.
"""

from __future__ import annotations

import csv
import io
import logging
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback

from dff_edge.errors import MissingDependencyError, require
from dff_edge.trainer.tensor_files import write_file

FILE = "curves.png"
Points = list[tuple[int, float]]
_log = logging.getLogger("dff_edge.trainer")


@dataclass
class StageCurves:
    """Curves of a stage.

    Attributes:
        name: of its folder.
        first_step: steps of the stages before.
        loss: by step of the run.
        validation: values by step of the run, by their names.
    """

    name: str
    first_step: int
    loss: Points = field(default_factory=list)
    validation: dict[str, Points] = field(default_factory=dict)


def read_curves(run_folder: Path) -> list[StageCurves]:
    """Return the curves of the stages of a run that have begun, in their order.

    Each start of a stage has logs of its own; what a resumed run did once more counts once.
    """
    stages: list[StageCurves] = []
    done = 0
    for folder in sorted(
        run_folder.glob("[0-9]*-*"), key=lambda path: int(path.name.split("-")[0])
    ):
        values: dict[str, dict[int, float]] = {}
        logs = folder.glob("logs/version_*/metrics.csv")
        for log in sorted(logs, key=lambda path: int(path.parent.name.split("_")[1])):
            with log.open(newline="") as file:
                for row in csv.DictReader(file):
                    for name, text in row.items():
                        if text and (name == "loss" or name.startswith("val_")):
                            # Lightning counts the step before the first as 0.
                            values.setdefault(name, {})[int(row["step"]) + 1] = float(text)
        curves = {
            name: [(done + step, value) for step, value in sorted(points.items())]
            for name, points in values.items()
        }
        stages.append(StageCurves(folder.name, done, curves.pop("loss", []), curves))
        done += max((step for points in values.values() for step in points), default=0)
    return stages


def steps_before(run_folder: Path, number: int) -> int:
    """Return the steps of the stages before a stage, of which some may have ended early."""
    steps = 0
    for stage in read_curves(run_folder)[:number]:
        own = [stage.loss, *stage.validation.values()]
        steps = max((points[-1][0] for points in own if points), default=steps)
    return steps


def draw_curves(stages: list[StageCurves]) -> bytes:
    """Draw curves: the loss above, validation below.

    Returns:
        A PNG file.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    require("matplotlib", extra="train", purpose="Drawing the curves of a training run")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 6), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes: Any = figure.subplots(2, 1, sharex=True)
    names = list(dict.fromkeys(name for stage in stages for name in stage.validation))
    for stage in stages:
        if stage.first_step:
            for each in axes:
                each.axvline(stage.first_step, color="0.6", linewidth=0.8, linestyle=":")
        _plot(axes[0], stage.loss, "C0", None)
        title = axes[0].annotate(
            stage.name,
            (stage.first_step, 1),
            xycoords=("data", "axes fraction"),
            xytext=(4, -12),
            textcoords="offset points",
            fontsize=9,
            color="0.4",
        )
        title.set_in_layout(False)  # a long one may reach past the border
    for number, name in enumerate(names):
        for stage in stages:
            _plot(axes[1], stage.validation.get(name, []), f"C{number}", name)
    axes[0].set_ylabel("loss, mean of an epoch")
    axes[1].set_ylabel("validation")
    axes[1].set_xlabel("step")
    axes[1].set_xlim(left=0)
    for each in axes:
        each.set_ylim(0, 1.05 * each.get_ylim()[1])  # margins count from the lowest point
        each.grid(color="0.92")
        each.spines[["top", "right"]].set_visible(False)
    handles, labels = axes[1].get_legend_handles_labels()
    if names:
        unique = dict(zip(labels, handles, strict=True))
        axes[1].legend(unique.values(), unique.keys(), frameon=False, fontsize=9)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _plot(axes: Any, points: Points, colour: str, label: str | None) -> None:
    shown = [(step, value) for step, value in points if math.isfinite(value)]
    if shown:
        marker = "o" if len(shown) < 60 else None
        axes.plot(*zip(*shown, strict=True), color=colour, label=label, marker=marker, markersize=3)


class Curves(Callback):
    """Draws the curves anew after each epoch.

    Args:
        run_folder: of the run.
    """

    def __init__(self, run_folder: Path) -> None:
        self._run_folder = run_folder

    def on_train_epoch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Draw the epochs before, which are in the logs only now. See ``Callback``."""
        if trainer.current_epoch:
            self._draw(trainer)

    def on_train_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Draw the whole stage. See ``Callback``."""
        self._draw(trainer)

    def _draw(self, trainer: lightning.Trainer) -> None:
        if trainer.is_global_zero:
            write_file(self._run_folder / FILE, draw_curves(read_curves(self._run_folder)))


def curves_of(run_folder: Path) -> list[Callback]:
    """Return the callback that draws the curves; none, with a warning, where matplotlib lacks."""
    try:
        require("matplotlib", extra="train", purpose=f"Drawing {FILE}")
    except MissingDependencyError as error:
        _log.warning("%s The run goes on without it", error)
        return []
    return [Curves(run_folder)]
