"""Sinks that fail and dawdle beside one that does not."""

import logging
import threading
import time
from types import SimpleNamespace

import pytest

from dff_edge.errors import SinkError
from dff_edge.runtime.sinks import fan_out as fan_out_module
from dff_edge.runtime.sinks.fan_out import QUEUED
from tests.runtime.sinks.standins import (
    WAIT_S,
    FailingSink,
    GatedSink,
    RecordingSink,
    fan_out_to,
    result,
    sink_threads,
    wait_until,
)


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    assert sink_threads() == []


@pytest.mark.parametrize("live", [False, True], ids=["file", "live"])
def test_every_sink_gets_all_it_can_take_in_order(live):
    sinks = [RecordingSink(name) for name in "abc"]
    with fan_out_to(*sinks, live=live) as fan_out:
        for index in range(QUEUED):  # so many fit, however slow the threads are
            fan_out.write(result(index))

    for sink in sinks:
        assert sink.indices == list(range(QUEUED))
        assert sink.is_closed
    assert [(r.uri, r.written, r.lost, r.failure) for r in fan_out.reports] == [
        (name, QUEUED, 0, None) for name in "abc"
    ]


def test_each_sink_has_a_thread_of_its_own_but_a_window_has_the_callers():
    sinks = [RecordingSink(), RecordingSink(), RecordingSink(needs_caller=True)]
    with fan_out_to(*sinks) as fan_out:
        fan_out.write(result(0))

    threads = [sink.threads.pop() for sink in sinks]
    assert not any(sink.threads for sink in sinks)
    assert len(set(threads)) == 3
    assert threads[2] is threading.current_thread()


def test_nothing_is_lost_from_a_file_however_slow_a_sink_is():
    gated, free = GatedSink(), RecordingSink()
    total = 10 * QUEUED
    fan_out = fan_out_to(gated, free)
    gated.passes.release(total)
    with fan_out:
        for index in range(total):
            fan_out.write(result(index))

    assert gated.indices == free.indices == list(range(total))


def test_slow_sink_holds_up_a_file_with_a_bounded_queue():
    gated = GatedSink()
    fan_out = fan_out_to(gated)
    offered = []

    def offer():
        for index in range(3 * QUEUED):
            fan_out.write(result(index))
            offered.append(index)

    caller = threading.Thread(target=offer)
    caller.start()
    gated.entered.get(timeout=WAIT_S)
    wait_until(lambda: len(offered) == QUEUED)
    caller.join(0.1)  # it waits: nothing tells that it does
    assert len(offered) == QUEUED

    gated.passes.release(3 * QUEUED)
    caller.join(WAIT_S)
    fan_out.close()
    assert gated.indices == list(range(3 * QUEUED))


def test_slow_sink_of_a_live_source_loses_the_oldest_and_delays_nobody(caplog):
    gated, free = GatedSink("slow"), RecordingSink("free")
    fan_out = fan_out_to(gated, live=True)
    fan_out.write(result(0))
    gated.entered.get(timeout=WAIT_S)  # holds 0
    with caplog.at_level(logging.WARNING):
        for index in range(1, 100):
            fan_out.write(result(index))  # returns, though nobody takes anything
    assert fan_out.reports[0].lost == 100 - QUEUED

    gated.passes.release(100)
    fan_out.close()
    free.close()
    newest = list(range(100 - QUEUED + 1, 100))
    assert gated.indices == [0, *newest]
    (report,) = fan_out.reports
    assert (report.written, report.lost, report.failure) == (QUEUED, 100 - QUEUED, None)
    assert len(caplog.records) == 1
    assert "slow is slower than the source" in caplog.text


@pytest.mark.parametrize("needs_caller", [False, True], ids=["thread", "caller"])
def test_failure_is_told_and_counted_and_the_others_go_on(caplog, needs_caller):
    failing, free = FailingSink("bad.jsonl", at=2), RecordingSink()
    failing.needs_caller = needs_caller
    start = time.monotonic()
    with fan_out_to(failing, free) as fan_out:
        for index in range(50):
            fan_out.write(result(index))
        assert not fan_out.is_dead

    assert time.monotonic() - start < WAIT_S  # it is not taken for a stall
    bad, good = fan_out.reports
    assert (bad.written, bad.lost) == (2, 48)
    assert bad.failure == "Writing 'bad.jsonl' failed: Input/output error."
    assert caplog.text.count("Writing 'bad.jsonl' failed") == 1
    assert failing.is_closed
    assert (good.written, good.lost, good.failure) == (50, 0, None)
    assert free.is_closed


def test_caller_that_waits_for_a_sink_goes_on_when_it_fails():
    failing, free = GatedSink(fails=True), RecordingSink()
    fan_out = fan_out_to(failing, free)

    def offer():
        for index in range(3 * QUEUED):
            fan_out.write(result(index))

    caller = threading.Thread(target=offer)
    caller.start()
    failing.entered.get(timeout=WAIT_S)
    caller.join(0.1)  # it waits: nothing tells that it does
    failing.passes.release()
    caller.join(WAIT_S / 2)  # sooner than it would give up

    assert not caller.is_alive()
    fan_out.close()
    assert free.indices == list(range(3 * QUEUED))


def test_any_error_of_one_sink_spares_the_others(caplog):
    failing, free = FailingSink(at=0, error=ZeroDivisionError("a bug")), RecordingSink()
    with fan_out_to(failing, free) as fan_out:
        for index in range(20):
            fan_out.write(result(index))

    assert fan_out.reports[0].failure == "a bug"
    assert "Traceback" in caplog.text
    assert free.indices == list(range(20))


def test_failed_close_is_told(caplog):
    with fan_out_to(FailingSink("bad.mp4"), RecordingSink()) as fan_out:
        fan_out.write(result(0))

    assert fan_out.reports[0].failure == "Writing 'bad.mp4' failed: Input/output error."
    assert "bad.mp4" in caplog.text


def test_dead_is_when_no_sink_is_left():
    fan_out = fan_out_to(FailingSink("a", at=0), FailingSink("b", at=0))
    assert not fan_out.is_dead
    fan_out.write(result(0))
    fan_out.close()

    assert fan_out.is_dead
    assert not fan_out_to().is_dead


def test_window_gets_half_of_a_live_callers_time_at_most(monkeypatch):
    # 0 is drawn from 0 s to 10 s, so the window rests until 20 s: 1 and 2 come too early for it.
    clock = SimpleNamespace(monotonic=iter([0, 10, 11, 19, 21, 31]).__next__)
    monkeypatch.setattr(fan_out_module, "time", clock)
    window = RecordingSink(needs_caller=True)
    with fan_out_to(window, live=True) as fan_out:
        for index in range(4):
            fan_out.write(result(index))

    assert window.indices == [0, 3]
    assert fan_out.reports[0].lost == 2


def test_person_can_ask_to_stop():
    window = RecordingSink(needs_caller=True)
    with fan_out_to(RecordingSink(), window) as fan_out:
        assert not fan_out.stop_requested
        window.stop_requested = True
        assert fan_out.stop_requested


def test_window_alone_is_told_of_a_pause(caplog):
    class IdleSink(RecordingSink):
        idles = 0

        def idle(self):
            self.idles += 1
            if self.idles == 2:
                raise SinkError("the window failed")

    window, threaded = IdleSink(needs_caller=True), IdleSink()
    with fan_out_to(window, threaded, live=True) as fan_out:
        for _ in range(3):
            fan_out.idle()

    assert (window.idles, threaded.idles) == (2, 0)
    assert window.is_closed
    assert fan_out.reports[0].failure == "the window failed"
    assert caplog.text.count("the window failed") == 1


def test_closed_sinks_take_nothing():
    fan_out = fan_out_to(RecordingSink())
    fan_out.close()

    with pytest.raises(SinkError, match="were closed"):
        fan_out.write(result(0))
