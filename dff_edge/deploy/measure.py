"""Duration of an engine's run on its device, by events of a stream."""

from __future__ import annotations

import statistics

import numpy as np

from dff_edge.runtime.devices.base import Device
from dff_edge.runtime.engines.base import Engine

RUNS = 20
WARM_UP = 5  # the first runs choose kernels, allocate and raise clocks


def median_ms(engine: Engine, device: Device) -> float:
    """Return the median of ``RUNS`` runs in sequence, after ``WARM_UP`` that do not count.

    The inputs are random: small values of either sign, bytes of all values.
    """
    rng = np.random.default_rng(0)
    inputs = {name: device.buffer(spec, host=True) for name, spec in engine.inputs.items()}
    outputs = {name: device.buffer(spec, host=True) for name, spec in engine.outputs.items()}
    stream = device.stream(f"measuring {engine.name}")
    try:
        for buffer in inputs.values():
            dtype, shape = buffer.spec.dtype, buffer.spec.shape
            if np.issubdtype(dtype, np.integer):
                ends = np.iinfo(dtype)
                buffer.array[...] = rng.integers(ends.min, ends.max, shape, dtype, endpoint=True)
            else:
                buffer.array[...] = rng.standard_normal(shape)
            device.copy_in(buffer, stream)
        start, end = stream.event(), stream.event()
        times = []
        for _ in range(WARM_UP + RUNS):
            stream.record(start)
            engine.enqueue(inputs, outputs, stream)
            stream.record(end)
            stream.synchronize()
            times.append(end.elapsed_ms_since(start))
        return statistics.median(times[WARM_UP:])
    finally:
        stream.close()
