"""Statistics of a run, against numbers done by hand."""

from dataclasses import replace

import numpy as np
import pytest

from dff_edge.boxes import Detections
from dff_edge.frames import Frame, FrameCounts, Result
from dff_edge.runtime import run_statistics
from dff_edge.runtime.run_statistics import RunStatistics
from dff_edge.runtime.sinks import SinkReport


def result(index, key_index, age_s=None, **stage_ms):
    frame = Frame(np.zeros((2, 2, 3), np.uint8), index, 0.0)
    return Result(
        frame, np.zeros((2, 2), np.uint8), key_index, 0.001 * (index + 1), stage_ms, age_s
    )


def test_counts_percentiles_and_shares():
    statistics = RunStatistics()
    statistics.add(result(0, 0, feature=30.0, task=1.0))
    statistics.add(result(1, 0, flow=4.0, task=1.0))
    statistics.add(result(2, 0, flow=8.0, task=6.0))
    counts = FrameCounts(read=3, dropped=2, failed=1, reconnects=4, reasons=["bad"])
    statistics.finish(counts)
    counts.dropped += 100  # a camera goes on while the outputs are closed
    counts.fail("late")
    numbers = statistics.as_dict()

    assert (numbers["frames"], numbers["key_frames"]) == (3, 1)
    assert (numbers["dropped"], numbers["failed"], numbers["failures"]) == (2, 1, ["bad"])
    assert numbers["reconnects"] == 4
    assert numbers["stages"]["flow"]["count"] == 2
    assert numbers["stages"]["flow"]["p50_ms"] == pytest.approx(6.0)
    assert numbers["stages"]["task"]["p50_ms"] == pytest.approx(1.0)
    # 30 + 4 + 8 + 1 + 1 + 6 = 50
    assert numbers["stages"]["feature"]["share"] == pytest.approx(30 / 50)
    assert numbers["latency"]["key frame"]["p50_ms"] == pytest.approx(1.0)
    assert numbers["latency"]["other frame"]["p50_ms"] == pytest.approx(2.5)


def test_how_old_key_frames_were_and_how_late_their_features_came():
    statistics = RunStatistics()
    for index, key_index in [(0, 0), (1, 0), (2, 0), (7, 2), (8, 2), (9, 9)]:
        told = result(index, key_index)
        statistics.add(replace(told, key_age_s=told.key_distance / 10))
    # A camera that came back: the same number is another key frame.
    frame = Frame(np.zeros((2, 2, 3), np.uint8), 12, 0.0, segment=1)
    statistics.add(Result(frame, np.zeros((2, 2), np.uint8), 9, 0.001, {}))
    statistics.finish()

    numbers = statistics.as_dict()
    assert numbers["key_frames"] == 4
    assert numbers["key_distance"]["p50"] == 2  # of 0 0 1 2 3 5 6
    assert numbers["key_age"]["p50_ms"] == pytest.approx(100)  # of 0 0 0 100 200 500 600
    assert numbers["lag"]["p50"] == pytest.approx(1.5)  # of 0 0 3 5
    assert RunStatistics().as_dict()["key_age"] is None


def test_ages_are_those_of_live_frames():
    statistics = RunStatistics()
    for index, age_s in enumerate([0.030, 0.010, None, 0.020]):
        statistics.add(result(index, index, age_s))
    statistics.finish()

    age = statistics.as_dict()["age"]
    assert age["p50_ms"] == pytest.approx(20)
    assert age["p99_ms"] == pytest.approx(29.8)  # 98% of the way from 20 to 30


def test_what_became_of_the_results_is_told():
    statistics = RunStatistics()
    statistics.finish()
    reports = [
        SinkReport("a.mp4", 7, 3, None, "a.new.mp4", "a.mp4"),
        SinkReport("b.jsonl", 0, 10, "no room"),
    ]

    told = statistics.as_dict(reports)["sinks"]
    assert [(sink["uri"], sink["written"], sink["lost"], sink["failure"]) for sink in told] == [
        ("a.mp4", 7, 3, None),
        ("b.jsonl", 0, 10, "no room"),
    ]
    assert (told[0]["place"], told[0]["replaces"]) == ("a.new.mp4", "a.mp4")


def test_memory_is_bounded_and_nothing_is_lost_from_the_sums(monkeypatch):
    monkeypatch.setattr(run_statistics, "_KEPT", 4)
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
    assert (numbers["age"], numbers["sinks"]) == (None, [])


def test_objects_are_counted_by_class():
    statistics = RunStatistics(["car", "cat"], min_score=0.3)
    for scores, labels in (([0.9, 0.4, 0.2], [1, 0, 0]), ([0.3], [1]), ([], [])):
        found = Detections(
            np.zeros((len(scores), 4), np.float32), np.float32(scores), np.int32(labels)
        )
        frame = Frame(np.zeros((2, 2, 3), np.uint8), 0, 0.0)
        statistics.add(Result(frame, None, 0, 0.001, {}, detections=found))
    statistics.finish()

    assert statistics.as_dict()["objects"] == {"car": 1 / 3, "cat": 2 / 3}
    assert RunStatistics().as_dict()["objects"] is None


def test_key_frames_by_results_and_how_stale_answers_are_expected_to_be():
    statistics = RunStatistics()
    for index, expected in [(0, 0.0), (1, 0.02), (2, 0.04), (3, 0.1)]:
        statistics.add(replace(result(index, 0), expected_disagreement=expected))
    statistics.finish()
    numbers = statistics.as_dict()

    assert numbers["key_share"] == 0.25
    assert numbers["expected_disagreement"]["mean"] == pytest.approx(0.04)
    assert numbers["expected_disagreement"]["p50"] == pytest.approx(0.03)
    empty = RunStatistics().as_dict()
    assert (empty["key_share"], empty["expected_disagreement"]) == (None, None)
