"""A benchmark as one HTML page that needs no other file and no network."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dff_edge.errors import require
from dff_edge.report.pictures import Picture
from dff_edge.report.plot import DARK, LIGHT, draw_distance, draw_speed
from dff_edge.report.results import Benchmark
from dff_edge.report.stages import STAGE_COLOURS

_TEMPLATE = "page.html.j2"


@dataclass(frozen=True)
class Strip:
    """Pictures of one clip.

    Attributes:
        title: what the clip shows.
        pictures: by distance from the key frame.
        note: remarks on the clip.
    """

    title: str
    pictures: Sequence[Picture]
    note: str = ""


@dataclass(frozen=True)
class Run:
    """A run on a whole video.

    Attributes:
        source: the video.
        configuration: precision and key interval, for people.
        statistics: JSON of ``dff-edge run``.
        output: name of the annotated video beside the page.
        video: the annotated video itself, mp4, to be played in the page; None leaves it out.
    """

    source: str
    configuration: str
    statistics: dict[str, Any]
    output: str
    video: bytes | None = None


def render_page(
    benchmark: Benchmark,
    *,
    title: str,
    strips: Sequence[Strip] = (),
    run: Run | None = None,
    commands: Sequence[str] = (),
    limits: Sequence[str] = (),
) -> str:
    """Render the page.

    Args:
        benchmark: the numbers.
        title: its heading.
        strips: pictures.
        run: the run on a video.
        commands: command lines that produced everything.
        limits: limits of the numbers; the benchmark's own notes are added.

    Raises:
        MissingDependencyError: jinja2 or matplotlib is not installed.
    """
    jinja2 = require("jinja2", extra="report", purpose="Writing a report page")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = _percent
    environment.filters["data"] = _data_uri
    page: str = environment.get_template(_TEMPLATE).render(
        title=title,
        benchmark=benchmark,
        headline=benchmark.headline,
        baseline=benchmark.baseline,
        loss=_loss_points(benchmark),
        stage_colours=STAGE_COLOURS,
        plots={
            "speed": (draw_speed(benchmark, LIGHT), draw_speed(benchmark, DARK)),
            "distance": (draw_distance(benchmark, LIGHT), draw_distance(benchmark, DARK)),
        },
        strips=strips,
        run=run,
        commands=commands,
        limits=(*limits, *benchmark.notes),
    )
    return page


def _loss_points(benchmark: Benchmark) -> float | None:
    """Return the headline configuration's loss against per-frame FP32, in points of accuracy."""
    before, after = benchmark.baseline.accuracy, benchmark.headline.accuracy
    return None if before is None or after is None else 100 * (before - after)


def _percent(value: float | None, digits: int = 1) -> str:
    return "\N{EN DASH}" if value is None else f"{100 * value:.{digits}f}"


def _data_uri(data: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"
