"""The frontier's table, its comparisons and what is told of them."""

from __future__ import annotations

import pytest

from dff_edge.experiment.frontier.live import LiveRun
from dff_edge.experiment.frontier.results import (
    Frontier,
    Row,
    best_of_dff,
    best_rival,
    compare,
)
from tests.experiment.test_results import MACHINE, cells

LIVE = LiveRun(lag=2, answer_ms=3.0, age_p99_ms=41.6, answered_share=0.995)


def row(network, role, method, accuracy, ms, interval=1, **fields):
    return Row(
        network=network,
        role=role,
        method=method,
        accuracy=accuracy,
        ms=ms,
        interval=interval,
        **fields,
    )


ROWS = (
    row("heavy", "dff", "frame", 0.74, 32.0),
    row("heavy", "dff", "dff", 0.70, 8.0, 3, flow="network"),
    row("heavy", "dff", "dff", 0.60, 2.0, 10, flow="network"),
    row("heavy", "dff", "dff", 0.72, 8.0, 3, flow="dis-fast"),
    row("heavy", "dff", "held", 0.50, 8.0, 4),
    row("heavy", "dff", "background", 0.66, 3.0, None, flow="network", live=LIVE),
    row("half", "smaller", "frame", 0.60, 8.0),
    row("light", "light", "frame", 0.65, 6.0),
    row("lighter", "light", "frame", 0.64, 1.0),
)


def results(rows=ROWS):
    comparisons, rival = compare(rows), best_rival(rows)
    return Frontier(
        metric="mIoU",
        frames_before=9,
        rows=rows,
        comparisons=comparisons,
        rival=rival,
        frontier_speed_ratio=best_of_dff(comparisons, rival, lambda item: item.speed_ratio),
        frontier_points=best_of_dff(comparisons, rival, lambda item: item.points),
        config={},
        machine=MACHINE,
    )


def test_each_curve_is_compared_with_each_network_on_every_frame():
    found = {(item.curve, item.rival): item for item in compare(ROWS)}

    assert len(found) == 3 * 3
    dff = found["heavy, DFF", "light"]  # half the way from 2 to 8 ms, and log3 in time
    assert dff.speed_ratio == pytest.approx(1.5)
    assert dff.points == pytest.approx(0.60 + 0.10 * 0.79248 - 0.65, abs=1e-5)  # log4(6 / 2)
    held = found["heavy, answers held", "half"]  # from 8 ms and 0.50 to 32 ms and 0.74
    assert held.points == pytest.approx(-0.10)
    assert held.speed_ratio == pytest.approx(0.5 ** (2 * 0.10 / 0.24))
    assert found["heavy, DFF", "lighter"].points is None
    assert found["heavy, DFF", "half"].speed_ratio == pytest.approx(4)


def test_figures_are_of_the_flow_network_against_the_most_accurate_light_one():
    found = results()

    assert found.rival == "light"
    assert found.frontier_speed_ratio == pytest.approx(1.5)
    assert found.frontier_points == pytest.approx(0.0292, abs=1e-4)


def test_without_light_networks_there_are_no_figures():
    found = results(ROWS[:6])

    assert (found.rival, found.frontier_speed_ratio, found.frontier_points) == (None, None, None)
    assert "light" not in found.markdown()


def test_table_has_a_line_for_each_row():
    lines = [cells(line) for line in results().markdown().splitlines()]

    assert lines[2] == ["heavy", "every frame", "1", "74.0", "32.00", "31.2"]
    assert lines[5] == ["heavy", "DFF, flow of dis-fast", "3", "72.0", "8.00", "125.0"]
    assert lines[7] == ["heavy", "DFF in the background", "idle", "66.0", "3.00", "-"]
    assert lines[10] == ["lighter", "every frame", "1", "64.0", "1.00", "1000.0"]
    assert ["heavy, DFF", "light (light)", "1.50x", "+2.9"] in lines
    assert ["heavy, DFF", "lighter (light)", "0.29x", "-"] in lines


def test_text_tells_of_the_best_light_network_and_of_the_background():
    text = results().markdown()

    assert "light network is light: 65.0 mIoU in 6.00 ms a frame." in text
    assert "answers 1.50 times as many" in text
    assert "2.9 points better" in text
    assert "used 2 frames late; 99.5% of the frames answered, 99% of the answers within 42" in text


def test_text_tells_where_nothing_reaches_the_rival():
    best = row("best", "light", "frame", 0.8, 1.0)
    text = results((*ROWS[:6], best)).markdown()

    assert "does not reach its accuracy" in text
    assert "nowhere as fast" in text


def test_json_gives_the_results_back():
    assert Frontier.model_validate_json(results().model_dump_json()) == results()
