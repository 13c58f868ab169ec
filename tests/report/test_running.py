"""Statistics of a run, against numbers done by hand."""

import numpy as np
import pytest

from dff_edge.report import running
from dff_edge.report.running import RunStatistics
from dff_edge.runtime.frames import Frame, FrameCounts, Result


def result(index, key_index, **stage_ms):
    frame = Frame(np.zeros((2, 2, 3), np.uint8), index, 0.0)
    return Result(frame, np.zeros((2, 2), np.uint8), key_index, 0.001 * (index + 1), stage_ms)


def test_counts_percentiles_and_shares():
    statistics = RunStatistics()
    statistics.add(result(0, 0, feature=30.0, task=1.0))
    statistics.add(result(1, 0, flow=4.0, task=1.0))
    statistics.add(result(2, 0, flow=8.0, task=6.0))
    statistics.finish(FrameCounts(read=3, dropped=2, failed=1, reasons=["bad"]))
    numbers = statistics.as_dict()

    assert (numbers["frames"], numbers["key_frames"]) == (3, 1)
    assert (numbers["dropped"], numbers["failed"], numbers["failures"]) == (2, 1, ["bad"])
    assert numbers["stages"]["flow"]["count"] == 2
    assert numbers["stages"]["flow"]["p50_ms"] == pytest.approx(6.0)
    assert numbers["stages"]["task"]["p50_ms"] == pytest.approx(1.0)
    # 30 + 4 + 8 + 1 + 1 + 6 = 50
    assert numbers["stages"]["feature"]["share"] == pytest.approx(30 / 50)
    assert numbers["latency"]["key frame"]["p50_ms"] == pytest.approx(1.0)
    assert numbers["latency"]["other frame"]["p50_ms"] == pytest.approx(2.5)


def test_memory_is_bounded_and_nothing_is_lost_from_the_sums(monkeypatch):
    monkeypatch.setattr(running, "_KEPT", 4)
    statistics = RunStatistics()
    for index in range(10):
        statistics.add(result(index, index, feature=float(index)))
    statistics.finish()
    feature = statistics.as_dict()["stages"]["feature"]
    assert feature["count"] == 10
    assert feature["share"] == 1.0
    assert feature["p50_ms"] == pytest.approx(7.5)  # of 6, 7, 8, 9


def test_a_run_without_frames_has_numbers_too():
    statistics = RunStatistics()
    statistics.finish()
    numbers = statistics.as_dict()
    assert (numbers["frames"], numbers["stages"], numbers["latency"]) == (0, {}, {})
