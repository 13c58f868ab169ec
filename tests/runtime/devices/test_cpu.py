"""Streams and events of the CPU, and how many threads its kernels take."""

import threading

import pytest

from dff_edge.errors import PipelineError
from dff_edge.runtime.devices.cpu import CpuEvent, CpuStream, kernel_threads

TIMEOUT_S = 10  # of a wait that ends at once when the code is right


def test_event_that_was_never_recorded_holds_nobody_up():
    stream = CpuStream("test")
    event = CpuEvent()
    assert event.is_done
    stream.wait(event)
    stream.synchronize()
    stream.close()


def test_interrupted_record_holds_nobody_up(monkeypatch):
    def ctrl_c(work):
        raise KeyboardInterrupt

    stream = CpuStream("test")
    event = CpuEvent()
    with monkeypatch.context() as interrupted:
        interrupted.setattr(stream, "_put", ctrl_c)
        with pytest.raises(KeyboardInterrupt):
            stream.record(event)
    assert event.is_done
    stream.wait(event)
    stream.synchronize()
    stream.close()


def test_wait_means_the_latest_record_at_the_time_of_the_call():
    first, second = CpuStream("first"), CpuStream("second")
    gate, order, event = threading.Event(), [], CpuEvent()
    first.record(event)
    second.wait(event)  # the first record
    second.enqueue(lambda: order.append("second"))
    first.enqueue(lambda: gate.wait(TIMEOUT_S))
    first.enqueue(lambda: order.append("first"))
    first.record(event)
    second.synchronize()
    assert order == ["second"]
    second.wait(event)  # the second record
    second.enqueue(lambda: order.append("second again"))
    gate.set()
    second.synchronize()
    assert order == ["second", "first", "second again"]
    first.close()
    second.close()


@pytest.mark.parametrize(
    ("work", "threads", "expected"),
    [
        (256 * 512, 8, 1),  # a small label map: one thread
        (1080 * 1920, 8, 3),  # 2,073,600 / 524,288 = 3.96
        (1080 * 1920, 2, 2),
        (0, 2, 1),
    ],
)
def test_small_kernels_keep_to_one_thread(work, threads, expected):
    assert kernel_threads(work, threads) == expected


def test_closed_stream_takes_no_work():
    stream = CpuStream("test")
    stream.close()
    with pytest.raises(PipelineError, match="closed"):
        stream.enqueue(lambda: None)
