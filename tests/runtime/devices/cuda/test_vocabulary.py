"""Streams and events mean the same on the CPU and on CUDA, through either package."""

from __future__ import annotations

import threading

import pytest

from dff_edge.errors import PipelineError
from tests.runtime.devices.cuda.bench import TIMEOUT_S, Gate, stays_undone

CLOCK_MS = 0.01  # CUDA tells times in float32 to half a microsecond; two of them are subtracted


@pytest.fixture
def streams(bench):
    """Three streams."""
    streams = [bench.device.stream(name) for name in ("first", "second", "third")]
    yield streams
    for stream in streams:
        stream.close()


def test_a_stream_works_in_order(bench, streams):
    seen = []
    for number in range(20):
        bench.call(streams[0], lambda number=number: seen.append(number))
    streams[0].synchronize()

    assert seen == list(range(20))


def test_streams_do_not_wait_for_each_other(bench, streams):
    gate = Gate(bench, streams[0])
    done = threading.Event()
    bench.call(streams[1], done.set)

    assert done.wait(TIMEOUT_S)
    gate.open()


def test_an_event_never_recorded_is_done_and_holds_nobody_up(bench, streams):
    event = streams[0].event()
    done = threading.Event()

    assert event.is_done
    event.synchronize()
    streams[1].wait(event)
    bench.call(streams[1], done.set)
    assert done.wait(TIMEOUT_S)


def test_an_event_is_done_when_the_work_before_it_is(bench, streams):
    gate, event = Gate(bench, streams[0]), streams[0].event()
    streams[0].record(event)

    assert stays_undone(event)
    gate.open()
    event.synchronize()
    assert event.is_done


def test_a_stream_waits_for_another_ones_event(bench, streams):
    seen = []
    gate, event = Gate(bench, streams[0]), streams[0].event()
    bench.call(streams[0], lambda: seen.append("first"))
    streams[0].record(event)
    streams[1].wait(event)
    bench.call(streams[1], lambda: seen.append("second"))
    # Nothing can have run on the second stream: the third, enqueued later, is done first.
    bench.call(streams[2], lambda: seen.append("third"))
    streams[2].synchronize()
    gate.open()
    streams[1].synchronize()

    assert seen == ["third", "first", "second"]


def test_a_wait_is_for_the_latest_record_at_its_time(bench, streams):
    event, done = streams[0].event(), threading.Event()
    streams[0].record(event)
    streams[1].wait(event)
    gate = Gate(bench, streams[0])
    streams[0].record(event)  # a later record: not the one waited for
    bench.call(streams[1], done.set)

    assert done.wait(TIMEOUT_S)
    assert stays_undone(event)
    gate.open()


def test_a_later_record_replaces_an_earlier_one(bench, streams):
    event, seen = streams[0].event(), []
    streams[0].record(event)
    gate = Gate(bench, streams[0])
    bench.call(streams[0], lambda: seen.append("first"))
    streams[0].record(event)
    streams[1].wait(event)
    bench.call(streams[1], lambda: seen.append("second"))
    gate.open()
    streams[1].synchronize()

    assert seen == ["first", "second"]


def test_a_host_stream_waits_for_the_device(bench, streams):
    host, seen = bench.device.host_stream("host"), []
    gate, event = Gate(bench, streams[0]), streams[0].event()
    bench.call(streams[0], lambda: seen.append("device"))
    streams[0].record(event)
    host.wait(event)
    host.enqueue(lambda: seen.append("host"))
    gate.open()
    host.synchronize()
    host.close()

    assert seen == ["device", "host"]


def test_a_host_streams_wait_is_for_the_latest_record_at_its_time(bench, streams):
    host, done = bench.device.host_stream("host"), threading.Event()
    event = streams[0].event()
    held = threading.Event()
    host.enqueue(lambda: held.wait(TIMEOUT_S))  # so that its thread looks at the event late
    streams[0].record(event)
    host.wait(event)
    host.enqueue(done.set)
    gate = Gate(bench, streams[0])
    streams[0].record(event)
    held.set()

    assert done.wait(TIMEOUT_S)
    assert stays_undone(event)
    gate.open()
    host.close()


def test_waits_of_a_host_stream_after_a_failure_end(bench, streams):
    host, event = bench.device.host_stream("host"), streams[0].event()

    def fail() -> None:
        raise ValueError("no such class")

    host.enqueue(fail)
    streams[0].record(event)
    host.wait(event)
    ended = host.event()
    host.record(ended)
    ended.synchronize()

    with pytest.raises(PipelineError, match="host stage failed: no such class"):
        host.synchronize()
    with pytest.raises(PipelineError, match="no such class"):
        host.raise_failure()
    host.close()


def test_times_between_events_add_up(bench, streams):
    events = [streams[0].event() for _ in range(3)]
    for event in events:
        streams[0].record(event)
        bench.call(streams[0], lambda: None)
    streams[0].synchronize()
    begin, middle, end = events
    first_ms, second_ms = middle.elapsed_ms_since(begin), end.elapsed_ms_since(middle)

    assert first_ms > 0
    assert second_ms > 0
    assert end.elapsed_ms_since(begin) == pytest.approx(first_ms + second_ms, abs=CLOCK_MS)
    assert begin.elapsed_ms_since(end) == pytest.approx(-first_ms - second_ms, abs=CLOCK_MS)


def test_closing_finishes_the_work_and_may_be_done_twice(bench):
    stream, seen = bench.device.stream("task"), []
    bench.call(stream, lambda: seen.append(sum(range(10**6))))  # takes a while
    stream.close()
    stream.close()

    assert len(seen) == 1


def test_a_closed_stream_takes_no_more(bench):
    stream = bench.device.stream("task")
    event = stream.event()
    stream.close()

    with pytest.raises(PipelineError, match="stream 'task' is closed"):
        stream.record(event)
    stream.raise_failure()


def test_a_dependence_that_is_stated_holds_under_any_delays(bench, streams, request):
    """Three streams in turns, each waiting for the one before, each operation delayed by chance."""
    if "emulation" in request.fixturenames:
        request.getfixturevalue("emulation").jitter(seed=1, max_us=300)
    seen = []
    for turn in range(10):
        for number, stream in enumerate(streams):
            bench.call(stream, lambda item=(turn, number): seen.append(item))
            event = stream.event()
            stream.record(event)
            streams[(number + 1) % 3].wait(event)
    for stream in streams:
        stream.synchronize()

    assert seen == [(turn, number) for turn in range(10) for number in range(3)]
