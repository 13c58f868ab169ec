"""Choice whether the networks overlap on a device, by measurement.

On a GPU that one network fills, networks side by side only slow each other down; on a small load
they use what the others leave idle. Which is the case depends on the device, the engines and the
key interval, so both are measured before the first frame.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

import numpy as np

from dff_edge.frames import Frame
from dff_edge.runtime.devices.base import Device
from dff_edge.runtime.engines.subnets import Subnets
from dff_edge.runtime.scheduler import Scheduler
from dff_edge.runtime.tasks.decoders import Decoder

_GAIN = 1.03  # a smaller gain is noise, and in order the latency is lower
_ROUNDS = 7
_MAX_SECONDS = 3.0
_MIN_ROUNDS = 3
_MIN_FRAMES, _MAX_FRAMES = 10, 30  # per round


@dataclass(frozen=True, slots=True)
class OverlapChoice:
    """Choice of the networks' schedule, with the reason.

    Attributes:
        overlap: whether they have a stream each.
        reason: why, for the log.
    """

    overlap: bool
    reason: str

    def __str__(self) -> str:
        return f"{'overlap' if self.overlap else 'in order'}: {self.reason}"


def choose_overlap(
    device: Device, subnets: Subnets, decoder: Decoder, *, depth: int, interval: int
) -> OverlapChoice:
    """Run generated frames with and without overlap, in turns, and choose the faster.

    Takes three seconds, or as long as ten rounds of 10 to 30 frames where that is longer.

    Args:
        device: where buffers and streams live.
        subnets: the engines to run.
        decoder: as for ``Scheduler``.
        depth: frames in flight at most.
        interval: key interval l of the frames that are run; capped at 30, beyond which it
            changes little.

    Raises:
        PipelineError: when a stage fails.
    """
    if depth == 1:
        return OverlapChoice(False, "one frame in flight has nothing to overlap with")
    interval = min(interval, _MAX_FRAMES)
    ways = {True: "overlap", False: "in order"}
    seconds: dict[bool, list[float]] = {overlap: [] for overlap in ways}
    schedulers: dict[bool, Scheduler] = {}
    frames = _frames(subnets, max(interval, _MIN_FRAMES))
    begin_s = time.perf_counter()
    try:
        for overlap in ways:
            schedulers[overlap] = Scheduler(device, subnets, decoder, depth=depth, overlap=overlap)
            for _ in range(2):  # the first runs allocate, the second may capture
                _run(schedulers[overlap], frames, interval)
        for turn in range(_ROUNDS):
            for overlap in (True, False) if turn % 2 == 0 else (False, True):
                start_s = time.perf_counter()
                _run(schedulers[overlap], frames, interval)
                seconds[overlap].append(time.perf_counter() - start_s)
            if turn + 1 >= _MIN_ROUNDS and time.perf_counter() - begin_s > _MAX_SECONDS:
                break
    finally:
        for scheduler in schedulers.values():
            scheduler.close()
    fps = {overlap: len(frames) / statistics.median(seconds[overlap]) for overlap in ways}
    reason = (
        f"measured {fps[True]:.1f} frames per second with overlap, {fps[False]:.1f} in order, "
        f"at key interval {interval}"
    )
    return OverlapChoice(fps[True] > fps[False] * _GAIN, reason)


def _frames(subnets: Subnets, count: int) -> list[Frame]:
    shape = subnets.feature.inputs["frame"].shape[1:]
    random = np.random.default_rng(0)
    return [
        Frame(random.integers(0, 256, shape, dtype=np.uint8), index, 0.0) for index in range(count)
    ]


def _run(scheduler: Scheduler, frames: list[Frame], interval: int) -> None:
    for frame in frames:
        if scheduler.is_full:
            scheduler.collect()
        scheduler.submit(frame, is_key=frame.index % interval == 0)
    while scheduler.in_flight:
        scheduler.collect()
