"""Measured times: the median of runs that count, on the device's own clock."""

from __future__ import annotations

import numpy as np

from dff_edge.bundle.tensors import TensorSpec
from dff_edge.deploy.measure import RUNS, WARM_UP, median_ms
from dff_edge.runtime.devices.cpu import CpuDevice


class Clocked:
    """An engine whose runs take what a list says, by the clock of ``ClockedStream``."""

    name = "clocked"
    outputs: dict[str, TensorSpec] = {}

    def __init__(self, times: list[float]) -> None:
        self.inputs = {
            "bytes": TensorSpec("bytes", np.dtype(np.int8), (1000,)),
            "floats": TensorSpec("floats", np.dtype(np.float16), (1000,)),
        }
        self.times = list(times)
        self.now_ms = 0.0
        self.seen = None

    def enqueue(self, inputs, outputs, stream):
        self.seen = {name: buffer.array for name, buffer in inputs.items()}
        self.now_ms += self.times.pop(0)


class ClockedDevice(CpuDevice):
    def __init__(self, engine: Clocked) -> None:
        super().__init__()
        self._engine = engine

    def stream(self, name):
        return ClockedStream(self._engine)


class ClockedStream:
    is_closed = False

    def __init__(self, engine):
        self._engine = engine

    def event(self):
        return ClockedEvent()

    def record(self, event):
        event.at_ms = self._engine.now_ms

    def synchronize(self):
        pass

    def close(self):
        ClockedStream.is_closed = True


class ClockedEvent:
    at_ms = 0.0

    def elapsed_ms_since(self, start):
        return self.at_ms - start.at_ms


def test_it_is_the_median_without_the_first_runs():
    engine = Clocked([1000.0] * WARM_UP + [2.0] * (RUNS - 9) + [500.0] * 9)

    assert median_ms(engine, ClockedDevice(engine)) == 2.0
    assert engine.times == []
    assert ClockedStream.is_closed


def test_inputs_are_of_both_signs_and_finite():
    engine = Clocked([1.0] * (WARM_UP + RUNS))
    median_ms(engine, ClockedDevice(engine))

    for array in engine.seen.values():
        assert np.isfinite(array).all()
        assert array.min() < 0 < array.max()
