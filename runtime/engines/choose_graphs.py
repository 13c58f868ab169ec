"""Choice between an engine and its CUDA graphs, by measurement."""

from __future__ import annotations

import statistics
import time

from dff_edge.errors import EngineError
from dff_edge.runtime.devices.cuda.device import CudaDevice
from dff_edge.runtime.engines.base import Engine
from dff_edge.runtime.engines.cuda_graphs import GraphedEngine

_GAIN = 0.97  # of the time without graphs; a smaller gain is noise
_REPETITIONS = 30
_WARM_UP = 3  # the first call runs the engine itself, the second records


def choose_graphs(
    engine: Engine, device: CudaDevice, wanted: bool | None = None
) -> tuple[Engine, str]:
    """Return the engine itself or as CUDA graphs, whichever has the lower latency.

    Args:
        engine: an engine of ``device``.
        device: the device that it runs on.
        wanted: whether to use graphs; None measures both, where the driver has graphs.

    Returns:
        The engine to run, which closes the given one with itself, and the reason for the choice.

    Raises:
        EngineError: graphs are wanted and not available.
    """
    if wanted:
        return GraphedEngine(engine, device), "CUDA graphs, as requested"
    if wanted is False:
        return engine, "no CUDA graphs, as requested"
    if not device.driver.has_graphs:
        return engine, f"no CUDA graphs: {device.driver.name} has none"
    graphed = GraphedEngine(engine, device)
    try:
        plain_ms, graph_ms = _measure((engine, graphed), device)
    except EngineError as error:
        return engine, f"no CUDA graphs: {error}"
    told = f"{graph_ms:.3f} ms as a graph, {plain_ms:.3f} ms without"
    if graph_ms < plain_ms * _GAIN:
        return GraphedEngine(engine, device), f"CUDA graphs: {told}"  # not the measured graphs
    return engine, f"no CUDA graphs: {told}"


def _measure(engines: tuple[Engine, Engine], device: CudaDevice) -> list[float]:
    """Return both median milliseconds from a call to its end, in turns, on the same buffers."""
    inputs = {name: device.buffer(spec) for name, spec in engines[0].inputs.items()}
    outputs = {name: device.buffer(spec) for name, spec in engines[0].outputs.items()}
    times: list[list[float]] = [[], []]
    stream = device.stream("measuring")
    try:
        for turn in range(_WARM_UP + _REPETITIONS):
            for engine, some in zip(engines, times, strict=True):
                start = time.perf_counter()
                engine.enqueue(inputs, outputs, stream)
                stream.synchronize()
                if turn >= _WARM_UP:
                    some.append((time.perf_counter() - start) * 1e3)
    finally:
        stream.close()
    return [statistics.median(some) for some in times]
