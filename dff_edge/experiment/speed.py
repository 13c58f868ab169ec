"""Frames per second of the rows of a table, in turns, through the runtime's pipeline."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from itertools import cycle, islice
from pathlib import Path
from typing import NamedTuple

from dff_edge.data.clips import open_clips
from dff_edge.experiment.config import SpeedConfig
from dff_edge.frames import Frame, Image
from dff_edge.names import Precision
from dff_edge.report.speed import load_images, whole_intervals
from dff_edge.runtime.pipeline import Pipeline
from dff_edge.runtime.policy import FixedInterval

_WARM_UP_FRAMES = 4
_FPS = 30.0  # of the stamps; the run does not wait for them


class Timed(NamedTuple):
    """A bundle at a key interval, to be timed in one precision."""

    bundle: Path
    interval: int
    precision: Precision = "fp32"


def measure_fps(timed: Sequence[Timed], test: str, settings: SpeedConfig) -> dict[Timed, float]:
    """Measure the median frames per second of each, in ONNX Runtime on the CPU.

    They take turns, every other time in reverse order, so that a machine that becomes slower or
    busier does so for all of them.

    Args:
        timed: the bundles to measure.
        test: the clips to compute on, by name.
        settings: frames, repetitions and threads.

    Raises:
        BundleError: a bundle is damaged, or does not hold the precision.
    """
    images = load_images(open_clips(test), settings.frames)
    seconds: dict[Timed, list[float]] = {entry: [] for entry in timed}
    with ExitStack() as stack:
        pipelines: Mapping[tuple[Path, Precision], Pipeline] = {
            (path, precision): stack.enter_context(
                Pipeline.open(path, precision=precision, threads=settings.threads)
            )
            for path, precision in dict.fromkeys((entry.bundle, entry.precision) for entry in timed)
        }
        for pipeline in pipelines.values():
            _run(pipeline, images, 2, _WARM_UP_FRAMES)
        for repetition in range(settings.repetitions):
            for entry in seconds if repetition % 2 == 0 else reversed(seconds):
                count = whole_intervals(settings.frames, entry.interval)
                pipeline = pipelines[entry.bundle, entry.precision]
                taken = _run(pipeline, images, entry.interval, count)
                seconds[entry].append(taken / count)
    return {entry: 1 / statistics.median(values) for entry, values in seconds.items()}


def _run(pipeline: Pipeline, images: Sequence[Image], interval: int, count: int) -> float:
    frames = [Frame(image, i, i / _FPS) for i, image in enumerate(islice(cycle(images), count))]
    pipeline.policy = FixedInterval(interval)
    start = time.perf_counter()
    for _ in pipeline.run(frames):
        pass
    return time.perf_counter() - start
