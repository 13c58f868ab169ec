"""Description of the machine."""

from __future__ import annotations

import time

import pytest

from dff_edge.report import machine
from dff_edge.report.machine import (
    CpuUsage,
    Machine,
    cores_of_others,
    cpu_usage,
    describe_machine,
)
from dff_edge.runtime.engines.base import usable_cores


def test_this_machine_is_described() -> None:
    found = describe_machine()

    assert found.cores == usable_cores()
    assert found.cpu
    assert found.cpu in str(found)
    assert f"ONNX Runtime {found.onnxruntime}" in str(found)
    assert found.busy_cores is None or 0 <= found.busy_cores <= found.cores


def test_cores_of_other_programs_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = iter([CpuUsage(at=1.0, busy=50.0, own=7.0), CpuUsage(at=3.0, busy=54.0, own=8.0)])
    monkeypatch.setattr(machine, "cpu_usage", lambda: next(looks))
    monkeypatch.setattr(machine, "_LOOK_S", 0.0)

    assert describe_machine().busy_cores == 1.5  # of 2 s: 4 s of CPU, of which 1 s its own


def test_no_more_cores_are_busy_than_there_are() -> None:
    """The system counts in ticks: of 0.3 s two cores may have 0.61 s."""
    tick, cores = 0.01, usable_cores()
    before = CpuUsage(at=0.0, busy=0.0, own=0.0)
    after = CpuUsage(at=0.3, busy=0.3 * cores + tick, own=0.0)

    assert cores_of_others(before, after) == cores
    assert cores_of_others(after._replace(at=-1.0), before) == 0


def test_own_work_is_not_that_of_others() -> None:
    """Where this process alone burns CPU, the others' part does not grow by it."""
    before, start = cpu_usage(), time.process_time()
    assert before is not None
    while time.process_time() - start < 0.3:
        pass
    after = cpu_usage()
    assert after is not None

    assert after.own - before.own >= 0.3
    others = cores_of_others(before, after)
    assert others is not None
    # What the cores did altogether, less our own; the system counts in ticks of 10 ms a core.
    tick = 0.02 * usable_cores() / (after.at - before.at)
    whole = (after.busy - before.busy) / (after.at - before.at)
    assert others <= max(whole - 0.3 / (after.at - before.at), 0) + tick


def test_system_that_does_not_say_is_not_called_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "cpu_usage", lambda: None)
    found = describe_machine()

    assert found.busy_cores is None
    assert not found.is_busy


@pytest.mark.parametrize(("busy_cores", "expected"), [(0.1, False), (0.5, True)])
def test_busy_is_more_than_a_desktop(busy_cores: float, expected: bool) -> None:
    found: Machine = describe_machine().model_copy(update={"busy_cores": busy_cores, "cores": 2})
    assert found.is_busy is expected
