"""Engines that several hold: never two calls at once, in the order in which they were made."""

import os
import threading

import numpy as np
import pytest

from dff_edge.bundle.tensors import TensorSpec
from dff_edge.errors import EngineError
from dff_edge.runtime.devices.cpu import CpuDevice
from dff_edge.runtime.engines.shared import FairLock, share_engines
from dff_edge.runtime.engines.subnets import Opened, Subnets

WAIT_S = 20  # of a wait that ends at once when the code is right
X, Y = (TensorSpec(name, np.dtype(np.float32), (1,)) for name in "xy")


class Doubling:
    """y = 2 x; a call may be held, and calls that overlap are noted."""

    name = "doubling"
    inputs, outputs = {"x": X}, {"y": Y}

    def __init__(self):
        self.go_on = threading.Event()
        self.go_on.set()
        self.order, self.closed, self.overlapped = [], 0, False
        self._inside = threading.Lock()
        self.begun = threading.Semaphore(0)

    def run(self, inputs, outputs):
        self.overlapped |= not self._inside.acquire(blocking=False)
        self.order.append(float(inputs["x"][0]))
        self.begun.release()
        assert self.go_on.wait(WAIT_S)
        if inputs["x"][0] < 0:
            self._inside.release()
            raise EngineError("negative")
        outputs["y"][:] = 2 * inputs["x"]
        self._inside.release()

    def close(self):
        self.closed += 1


class OneAtATime(threading.Semaphore):
    """Lets as many calls go on as the test says."""

    def __init__(self):
        super().__init__(0)

    def wait(self, timeout):
        return self.acquire(timeout=timeout)


def arrays(value):
    return {"x": np.full(1, value, np.float32)}, {"y": np.zeros(1, np.float32)}


def shared(users):
    engines = [Doubling() for _ in range(3)]
    return engines, share_engines(Opened(CpuDevice(), Subnets(*engines)), users)


def run_in_thread(engine, value):
    inputs, outputs = arrays(value)
    thread = threading.Thread(target=engine.run, args=(inputs, outputs))
    thread.start()
    return thread, outputs


def waiting(lock):
    return len(lock._places)


def test_calls_take_turns_in_the_order_in_which_they_were_made():
    (feature, *_), holds = shared(3)
    feature.go_on.clear()
    calls = []
    for number, held in enumerate(holds):
        calls.append(run_in_thread(held.subnets.feature, number + 1.0))
        while waiting(held.subnets.feature._shared.turns) <= number:
            os.sched_yield()
    assert feature.order == [1.0]
    feature.go_on.set()
    for thread, _ in calls:
        thread.join(WAIT_S)
    assert [outputs["y"][0] for _, outputs in calls] == [2, 4, 6]
    assert feature.order == [1.0, 2.0, 3.0]
    assert not feature.overlapped


def test_nobody_gets_two_turns_while_another_waits():
    """Each makes its next call at once, as a stream does whose queue is never empty."""
    (feature, *_), holds = shared(3)
    feature.go_on = permits = OneAtATime()
    lock = holds[0].subnets.feature._shared.turns

    def calls(engine, value):
        for _ in range(4):
            engine.run(*arrays(value))

    threads = [
        threading.Thread(target=calls, args=(held.subnets.feature, number + 1.0))
        for number, held in enumerate(holds)
    ]
    for thread in threads:
        thread.start()
    for _ in range(9):
        while waiting(lock) < 3:
            os.sched_yield()
        permits.release()
    permits.release(3)
    for thread in threads:
        thread.join(WAIT_S)
    rounds = [feature.order[start : start + 3] for start in range(0, 12, 3)]
    assert [sorted(numbers) for numbers in rounds] == [[1, 2, 3]] * 4
    assert rounds[1:] == rounds[:-1]
    assert not feature.overlapped


def test_engines_of_different_networks_run_side_by_side():
    (feature, flow, _), (held, other) = shared(2)
    feature.go_on.clear()
    call, _ = run_in_thread(held.subnets.feature, 1.0)
    assert feature.begun.acquire(timeout=WAIT_S)
    inputs, outputs = arrays(3.0)
    other.subnets.flow.run(inputs, outputs)
    assert (outputs["y"][0], flow.order) == (6, [3.0])
    feature.go_on.set()
    call.join(WAIT_S)


def test_a_call_that_fails_leaves_the_others_their_turns():
    _, (held, other) = shared(2)
    with pytest.raises(EngineError, match="negative"):
        held.subnets.task.run(*arrays(-1.0))
    inputs, outputs = arrays(4.0)
    other.subnets.task.run(inputs, outputs)
    assert outputs["y"][0] == 8


def test_the_last_to_close_frees_the_engines():
    engines, (held, other) = shared(2)
    held.close()
    held.close()
    assert [engine.closed for engine in engines] == [0, 0, 0]
    with pytest.raises(EngineError, match="doubling engine is closed"):
        held.subnets.flow.run(*arrays(1.0))
    other.subnets.flow.run(*arrays(1.0))
    other.close()
    other.close()
    assert [engine.closed for engine in engines] == [1, 1, 1]


def test_a_lock_is_handed_over_and_free_afterwards():
    lock = FairLock()
    with lock:
        pass
    with pytest.raises(ZeroDivisionError), lock:
        1 / 0  # noqa: B018
    with lock:
        assert waiting(lock) == 1
    assert waiting(lock) == 0
