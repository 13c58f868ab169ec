"""How many threads a feature network in the background gets on the CPU: measured, not assumed.

Its threads have a lower priority than those of the short path, which every frame takes, so that a
core is given over at once. What they still share is caches, memory bandwidth and clock rates, and
where the system does not know priorities of threads, the cores themselves. So the short path is
timed alone and beside the feature network, with fewer and fewer threads of that.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dff_edge.lifetime import Worker
from dff_edge.runtime.devices.niceness import has_thread_priorities, lower_priority
from dff_edge.runtime.engines.base import Engine
from dff_edge.runtime.engines.subnets import Opened

# The short path may take so many times as long as alone; fewer threads then give older features.
_MAX_SLOWDOWN = 1.4
_RUNS = 30  # of the short path; about a camera's pause between two
_PAUSE_S = 0.01
_MAX_SECONDS = 4.0  # no further number of threads is tried then


@dataclass(frozen=True, slots=True)
class ThreadShare:
    """Threads of a feature network that runs in the background.

    Attributes:
        threads: how many.
        reason: why, for the log.
    """

    threads: int
    reason: str

    def __str__(self) -> str:
        return f"feature network on {self.threads} of the CPU's threads: {self.reason}"


def choose_share(
    opened: Opened, open_feature: Callable[[int], Engine], threads: int
) -> tuple[Opened, ThreadShare]:
    """Give the feature network the most threads beside which the short path keeps its speed.

    Takes about a second for each number of threads that is tried, and no further one after four.

    Args:
        opened: engines, the feature network with ``threads`` threads and of lower priority. Owned
            by the caller, also when this fails.
        open_feature: opens another feature network with so many threads.
        threads: the most that it may have.

    Returns:
        The engines, in which the feature network may be another one (the first is closed then), and
        the choice.

    Raises:
        EngineError: when a network fails.
    """
    if threads == 1:
        return opened, ThreadShare(1, "there is one core")
    begin_s = time.perf_counter()
    short = _short_path(opened)
    alone_ms = statistics.median(_times_ms(short))
    taken = opened.subnets.feature
    try:
        beside_ms = _beside_ms(short, taken)
        tried = [_told(threads, beside_ms)]
        count = threads
        while (
            beside_ms > _MAX_SLOWDOWN * alone_ms
            and count > 1
            and time.perf_counter() - begin_s < _MAX_SECONDS
        ):
            count = max(1, count // 2)
            fewer = open_feature(count)
            if taken is not opened.subnets.feature:
                taken.close()
            taken = fewer
            beside_ms = _beside_ms(short, taken)
            tried.append(_told(count, beside_ms))
    except BaseException:
        if taken is not opened.subnets.feature:
            taken.close()
        raise
    if taken is not opened.subnets.feature:
        opened.subnets.feature.close()
    reason = f"measured {alone_ms:.1f} ms for the others alone, {', '.join(tried)}"
    if not has_thread_priorities():
        reason += "; this system has no priorities of threads"
    subnets = replace(opened.subnets, feature=taken)
    return replace(opened, subnets=subnets), ThreadShare(count, reason)


def _told(threads: int, beside_ms: float) -> str:
    return f"{beside_ms:.1f} beside {threads} thread{'s' * (threads > 1)}"


def _short_path(opened: Opened) -> Callable[[], None]:
    """Flow and task network, on arrays of their own."""
    calls = [_call(opened.subnets.flow), _call(opened.subnets.task)]

    def run() -> None:
        for call in calls:
            call()

    return run


def _call(engine: Engine) -> Callable[[], Any]:
    inputs = {name: np.zeros(spec.shape, spec.dtype) for name, spec in engine.inputs.items()}
    outputs = {name: spec.empty() for name, spec in engine.outputs.items()}
    return lambda: engine.run(inputs, outputs)


def _times_ms(short: Callable[[], None]) -> list[float]:
    short()  # the first runs allocate
    times = []
    for _ in range(_RUNS):
        time.sleep(_PAUSE_S)  # as between frames: by then other networks compute when it wakes up
        start_s = time.perf_counter()
        short()
        times.append((time.perf_counter() - start_s) * 1e3)
    return times


def _beside_ms(short: Callable[[], None], feature: Engine) -> float:
    """Median time of the short path while the feature network runs over and over."""
    over, begun = threading.Event(), threading.Event()
    failure: list[BaseException] = []
    call = _call(feature)

    def run() -> None:
        lower_priority()
        begun.set()
        try:
            while not over.is_set():
                call()
        except BaseException as error:  # raised below
            failure.append(error)

    thread = Worker(run, "dff-feature beside")
    thread.start()
    try:
        begun.wait()
        times = _times_ms(short)
    finally:
        over.set()
        thread.join()
    if failure:
        raise failure[0]
    return statistics.median(times)
