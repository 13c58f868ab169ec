"""What is told of the machine."""

from __future__ import annotations

import pytest

from dff_edge.report import machine
from dff_edge.report.machine import Machine, describe_machine
from dff_edge.runtime.engine import usable_cores


def test_this_machine_is_described() -> None:
    found = describe_machine()

    assert found.cores == usable_cores()
    assert found.cpu
    assert found.cpu in str(found)
    assert f"ONNX Runtime {found.onnxruntime}" in str(found)
    assert found.busy_cores is None or 0 <= found.busy_cores <= found.cores


def test_cores_of_other_programs_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([(100, 400), (115, 420)])  # 15 of 20 ticks idle
    monkeypatch.setattr(machine, "_cpu_ticks", lambda: next(ticks))
    monkeypatch.setattr(machine, "_LOOK_S", 0.0)
    monkeypatch.setattr(machine, "usable_cores", lambda: 4)

    assert describe_machine().busy_cores == 1.0


def test_system_that_does_not_say_is_not_called_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_cpu_ticks", lambda: None)
    found = describe_machine()

    assert found.busy_cores is None
    assert not found.is_busy


@pytest.mark.parametrize(("busy_cores", "expected"), [(0.1, False), (0.5, True)])
def test_busy_is_more_than_a_desktop(busy_cores: float, expected: bool) -> None:
    found: Machine = describe_machine().model_copy(update={"busy_cores": busy_cores, "cores": 2})
    assert found.is_busy is expected
