"""Numbers of a run's page, against numbers done by hand."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest

from dff_edge.runtime.run_statistics import RunStatistics
from dff_edge.runtime.sinks import FanOut
from dff_edge.runtime.sinks.base import NullSink
from dff_edge.runtime.sources import open_source
from dff_edge.serve import numbers as numbers_module
from dff_edge.serve.numbers import RunNumbers
from tests.serve.runs import CLASSES, COLOURS, StandInSource, result


@pytest.fixture
def clock(monkeypatch):
    clock = SimpleNamespace(now_s=100.0)
    clock.monotonic = lambda: clock.now_s
    monkeypatch.setattr(numbers_module, "time", clock)
    return clock


def numbers_of(source=None, sinks=None):
    numbers = RunNumbers("camera 0", CLASSES, COLOURS, policy="fixed:5", keys="in-order")
    numbers.begin(source or StandInSource("camera 0"), sinks or FanOut(live=True))
    return numbers


def test_rate_is_over_the_latest_two_seconds(clock):
    numbers = numbers_of()
    for index in range(100):  # 10 s of 10 a second
        clock.now_s += 0.1
        numbers.add(result(index))
    assert numbers.as_dict()["fps"] == pytest.approx(10, rel=0.06)

    clock.now_s += 1.0
    assert numbers.as_dict()["fps"] == pytest.approx(5, rel=0.11)
    assert numbers.as_dict()["silent_s"] == pytest.approx(1.0)
    clock.now_s += 1.5
    assert numbers.as_dict()["fps"] == 0


@pytest.mark.parametrize("fps", [5, 1000], ids=["run began just now", "more than is kept"])
def test_rate_is_right_where_two_seconds_are_not_kept(clock, fps):
    numbers = numbers_of()
    for index in range(fps if fps == 5 else 2000):
        clock.now_s += 1 / fps
        numbers.add(result(index))
    assert numbers.as_dict()["fps"] == pytest.approx(fps, rel=0.01)


def test_key_frames_in_the_background_are_counted_by_whom_they_answer(clock):
    """None of these answered its own frame."""
    numbers = numbers_of()
    for index, key_index in [(3, 0), (4, 0), (5, 2), (6, 2), (7, 5)]:
        told = replace(result(index), key_index=key_index, key_age_s=(index - key_index) / 10)
        numbers.add(told)
    shown = numbers.as_dict()
    assert shown["key_frames"] == 3
    assert shown["key_age"]["p50_ms"] == 300  # of 200 300 300 400 400
    assert not any(frame["is_key"] for frame in shown["recent"])
    assert numbers_of().as_dict()["key_age"] is None


def test_numbers_of_some_results(clock):
    source = StandInSource("camera 0")
    source.counts.read, source.counts.dropped, source.counts.reconnects = 6, 3, 2
    source.state = "lost"
    numbers = numbers_of(source)
    for index in range(6):  # key frames 0 and 5; latencies 0..5 ms
        numbers.add(result(index))

    shown = numbers.as_dict()
    assert json.loads(json.dumps(shown, allow_nan=False)) == shown
    assert (shown["state"], shown["failure"]) == ("running", None)
    assert (shown["frames"], shown["key_frames"]) == (6, 2)
    assert shown["latency"] == {
        "frame": {"p50_ms": pytest.approx(2.5), "p99_ms": pytest.approx(4.95)},
        "key frame": {"p50_ms": pytest.approx(2.5), "p99_ms": pytest.approx(4.95)},
        "other frame": {"p50_ms": pytest.approx(2.5), "p99_ms": pytest.approx(3.97)},
    }
    assert shown["age"] == {"p50_ms": pytest.approx(20), "p99_ms": pytest.approx(20)}
    # 2 x 6 + 4 x 2 + 6 x 1 = 26
    assert shown["stages"] == {
        "feature": {"count": 2, "p50_ms": 6, "p99_ms": 6, "share": pytest.approx(12 / 26)},
        "task": {"count": 6, "p50_ms": 1, "p99_ms": 1, "share": pytest.approx(6 / 26)},
        "flow": {"count": 4, "p50_ms": 2, "p99_ms": 2, "share": pytest.approx(8 / 26)},
    }
    assert shown["recent"][-2:] == [
        {"index": 4, "is_key": False, "latency_ms": 4, "expected_disagreement": None},
        {"index": 5, "is_key": True, "latency_ms": 5, "expected_disagreement": None},
    ]
    assert (shown["source"], shown["camera"]) == ("camera 0", "lost")
    assert [shown[name] for name in ("read", "dropped", "failed", "reconnects")] == [6, 3, 0, 2]
    assert shown["classes"] == [
        {"name": "road", "colour": "#804080"},
        {"name": "sky", "colour": "#4682b4"},
    ]


def test_numbers_before_the_first_result(clock):
    clock.now_s += 3
    shown = numbers_of().as_dict()
    assert (shown["frames"], shown["fps"], shown["latency"]) == (0, 0, {})
    assert (shown["age"], shown["stages"], shown["recent"]) == (None, {}, [])


def test_numbers_before_the_source_is_open(clock):
    numbers = RunNumbers("rtsp://10.0.0.7/***", CLASSES, COLOURS, policy="idle", keys="background")
    shown = numbers.as_dict()
    assert (shown["source"], shown["camera"], shown["state"]) == (
        "rtsp://10.0.0.7/***",
        None,
        "running",
    )
    assert (shown["read"], shown["dropped"], shown["sinks"]) == (0, 0, [])
    numbers.finish("failed", "no route to host")
    shown = numbers.as_dict()
    assert (shown["state"], shown["failure"], shown["read"]) == ("failed", "no route to host", 0)


def test_file_has_no_state_and_no_age():
    with open_source("synthetic://street?frames=1&height=32&width=64") as source:
        numbers = numbers_of(source)
        numbers.add(result(0, age_s=None))
        shown = numbers.as_dict()
    assert (shown["camera"], shown["age"]) == (None, None)


def test_finished_run_has_its_mean_rate_and_is_not_silent(clock):
    source = StandInSource("camera 0")
    numbers = numbers_of(source)
    for index in range(30):
        clock.now_s += 0.1
        numbers.add(result(index))
    source.counts.dropped = 2
    numbers.finish("failed", "the camera burnt")
    clock.now_s += 60
    source.counts.dropped = 1000  # a camera goes on until it is closed

    shown = numbers.as_dict()
    assert (shown["state"], shown["failure"]) == ("failed", "the camera burnt")
    assert shown["fps"] == pytest.approx(10)
    assert shown["silent_s"] is None
    assert shown["dropped"] == 2


def test_keys_that_the_report_of_a_run_has_too_mean_the_same(clock):
    source = StandInSource("camera 0")
    source.counts.read, source.counts.dropped = 6, 3
    numbers, statistics = numbers_of(source), RunStatistics()
    for index in range(6):
        clock.now_s += 0.1
        told = replace(result(index), expected_disagreement=index / 10)
        numbers.add(told)
        statistics.add(told)
    numbers.finish("stopped")
    statistics.finish(source.counts)

    shown, report = numbers.as_dict(), statistics.as_dict()
    assert shown.keys() - report.keys() == {
        "state", "failure", "source", "silent_s", "camera", "recent", "classes", "policy", "keys",
    }  # fmt: skip
    only_there = {"seconds", "key_share", "failures", "objects", "key_distance", "lag"}
    assert report.keys() - shown.keys() == only_there
    for name in shown.keys() & report.keys() - {"fps"}:
        assert shown[name] == report[name], name


def test_losses_of_sinks_are_told():
    sinks = FanOut(live=False)
    sinks.add(NullSink("null://"))
    sinks.write(result(0))
    sinks.close()
    assert numbers_of(sinks=sinks).as_dict()["sinks"] == [
        {
            "uri": "null://",
            "written": 1,
            "lost": 0,
            "failure": None,
            "place": None,
            "replaces": None,
        }
    ]


def test_memory_is_bounded():
    numbers = numbers_of()
    for index in range(2000):
        numbers.add(result(index, size=(2, 2)))
    shown = numbers.as_dict()
    assert shown["frames"] == 2000
    assert [frame["index"] for frame in shown["recent"]] == list(range(1880, 2000))
    assert len(numbers._samples) == 600


def test_how_key_frames_are_chosen_and_how_stale_answers_are_is_shown():
    numbers = numbers_of()
    for index, expected in enumerate([None, 0.02, 0.06]):
        numbers.add(replace(result(index), expected_disagreement=expected))
    shown = numbers.as_dict()

    assert (shown["policy"], shown["keys"]) == ("fixed:5", "in-order")
    assert shown["expected_disagreement"]["mean"] == pytest.approx(0.04)
    assert shown["expected_disagreement"]["p50"] == pytest.approx(0.04)
    assert [own["expected_disagreement"] for own in shown["recent"]] == [None, 0.02, 0.06]
    assert numbers_of().as_dict()["expected_disagreement"] is None
