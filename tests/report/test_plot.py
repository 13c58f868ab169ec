"""Plots: PNG files with a line for each precision, without a display."""

from __future__ import annotations

import sys

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from dff_edge.errors import MissingDependencyError
from dff_edge.report.plot import DARK, LIGHT, check_plotting, draw_distance, draw_speed
from dff_edge.report.results import Benchmark


@pytest.mark.parametrize("draw", [draw_speed, draw_distance])
@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_plot_has_a_line_for_each_precision(benchmark: Benchmark, draw, theme) -> None:  # type: ignore[no-untyped-def]
    picture = _decode(draw(benchmark, theme))

    assert min(picture.shape[:2]) > 500
    assert tuple(picture[0, 0]) == _rgb(theme.background)
    assert _count(picture, theme.lines["fp32"]) > 50
    assert _count(picture, theme.lines["int8"]) > 50
    assert _count(picture, theme.lines["fp16"]) == 0  # not in this bundle


def test_speeds_far_apart_are_drawn_too(benchmark: Benchmark) -> None:
    *others, last = benchmark.rows
    far = benchmark.model_copy(update={"rows": (*others, last.model_copy(update={"fps": 1e5}))})

    assert _decode(draw_speed(far)).shape == _decode(draw_speed(benchmark)).shape


def test_rows_without_accuracy_are_left_out(benchmark: Benchmark) -> None:
    rows = tuple(row.model_copy(update={"accuracy": None}) for row in benchmark.rows)
    picture = _decode(draw_speed(benchmark.model_copy(update={"rows": rows})))

    assert _count(picture, LIGHT.lines["int8"]) == 0


def test_global_state_of_matplotlib_is_not_used(
    benchmark: Benchmark, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)  # importing it fails
    draw_speed(benchmark)


def test_missing_matplotlib_is_named(without) -> None:  # type: ignore[no-untyped-def]
    without("matplotlib")
    with pytest.raises(MissingDependencyError, match=r"Drawing plots .*dff-edge\[report\]"):
        check_plotting()


def _decode(data: bytes) -> NDArray[np.uint8]:
    """RGB."""
    assert data.startswith(b"\x89PNG")
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    return np.asarray(picture[..., ::-1], np.uint8)


def _rgb(colour: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(colour[1:]))


def _count(picture: NDArray[np.uint8], colour: str) -> int:
    return int((picture == _rgb(colour)).all(axis=-1).sum())
