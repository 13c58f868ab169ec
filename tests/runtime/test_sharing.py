"""The share of a feature network in the background, on engines whose cost is made up."""

import threading

import numpy as np
import pytest

from dff_edge.runtime import sharing
from dff_edge.runtime.devices.cpu import CpuDevice
from dff_edge.runtime.devices.niceness import call_at_lower_priority
from dff_edge.runtime.engines.base import TensorSpec, enqueue_run
from dff_edge.runtime.engines.open import Opened
from dff_edge.runtime.engines.subnets import Subnets
from dff_edge.runtime.sharing import choose_share

SPEC = TensorSpec("x", np.dtype(np.float32), (1,))
WAIT_S = 10  # of a wait that ends at once when the code is right


class Clock:
    """Time that passes when it is said to."""

    def __init__(self):
        self.now_s = 0.0

    def perf_counter(self):
        return self.now_s

    def sleep(self, seconds):
        self.now_s += seconds


class Machine:
    """Engines whose times are made up; says what was opened and closed."""

    def __init__(self, clock):
        self.clock = clock
        self.begun = {}  # by threads of the feature network, in the order of opening
        self.is_open = {}

    def feature(self, threads):
        machine = self
        begun = self.begun[threads] = threading.Event()

        class Feature(Engine):
            def run(self, inputs, outputs):
                begun.set()
                threading.Event().wait(0.001)

            def close(self):
                machine.is_open[threads] = False

        self.is_open[threads] = True
        return Feature()

    def flow(self, slow_from):
        """Takes three times as long beside so many threads or more."""
        machine = self

        class Flow(Engine):
            def run(self, inputs, outputs):
                threads = 0
                if any(t.name == "dff-feature beside" for t in threading.enumerate()):
                    threads, begun = list(machine.begun.items())[-1]
                    assert begun.wait(WAIT_S)
                machine.clock.now_s += 0.003 if threads >= slow_from else 0.001

        return Flow()


class Engine:
    name = "made up"
    inputs = outputs = {"x": SPEC}
    enqueue = enqueue_run

    def run(self, inputs, outputs):
        pass

    def close(self):
        pass


@pytest.fixture
def machine(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(sharing, "time", clock)
    return Machine(clock)


def choose(machine, slow_from, threads=4):
    subnets = Subnets(machine.feature(threads), machine.flow(slow_from), Engine())
    return choose_share(Opened(CpuDevice(threads), subnets), machine.feature, threads)


@pytest.mark.parametrize(
    ("slow_from", "taken", "tried"),
    [(5, 4, "beside 4 threads"), (3, 2, "beside 2 threads"), (2, 1, "beside 1 thread")],
)
def test_the_most_threads_that_leave_the_short_path_its_speed(machine, slow_from, taken, tried):
    opened, share = choose(machine, slow_from)
    assert share.threads == taken
    assert share.reason.endswith(tried)
    assert "measured 1.0 ms for the others alone, " in share.reason
    assert [threads for threads, is_open in machine.is_open.items() if is_open] == [taken]
    opened.close()
    assert not any(machine.is_open.values())


def test_an_end_of_trying_where_nothing_helps(machine):
    _, share = choose(machine, slow_from=1)
    assert share.threads == 1
    assert [threads for threads, is_open in machine.is_open.items() if is_open] == [1]


def test_no_further_number_is_tried_when_time_is_up(machine, monkeypatch):
    monkeypatch.setattr(sharing, "_MAX_SECONDS", 0.0)
    _, share = choose(machine, slow_from=1)
    assert share.threads == 4
    assert list(machine.is_open) == [4]


def test_one_core_is_not_measured(machine):
    _, share = choose(machine, slow_from=1, threads=1)
    assert share.reason == "there is one core"


def test_failure_of_a_network_comes_out_and_leaves_what_the_caller_has(machine):
    def broken(inputs, outputs):
        raise ValueError("burst pipe")

    before = set(threading.enumerate())
    feature = machine.feature(2)
    feature.run = broken
    opened = Opened(CpuDevice(2), Subnets(feature, machine.flow(9), Engine()))
    with pytest.raises(ValueError, match="burst pipe"):
        choose_share(opened, machine.feature, 2)
    assert machine.is_open == {2: True}
    assert set(threading.enumerate()) == before


def test_what_fails_at_lower_priority_comes_out_there():
    def broken():
        raise ValueError("burst pipe")

    with pytest.raises(ValueError, match="burst pipe"):
        call_at_lower_priority(broken)
