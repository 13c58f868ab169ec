"""Speed of a bundle: real pipelines over frames in memory, configurations taking turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import cycle, islice
from typing import NamedTuple

from dff_edge.bundle.reader import Bundle
from dff_edge.data.datasets import LabelledClip
from dff_edge.frames import Frame, Image, Result
from dff_edge.names import Precision
from dff_edge.report.machine import cores_of_others, cpu_usage
from dff_edge.runtime.engines.backends import DEFAULT_BACKEND
from dff_edge.runtime.engines.options import CudaOptions
from dff_edge.runtime.keys import IN_ORDER, KeyMode
from dff_edge.runtime.pipeline import Pipeline
from dff_edge.runtime.policy import FixedInterval
from dff_edge.runtime.trace import Trace

_WARM_UP_FRAMES = 4
_FPS = 30.0  # of the stamps; the run does not wait for them


class Config(NamedTuple):
    """A configuration to measure: the graphs of one precision at one key interval."""

    precision: Precision
    interval: int


@dataclass
class Samples:
    """Measurements of one configuration.

    Attributes:
        frames: frames of one repetition, a whole number of key intervals.
        seconds: wall time of each repetition, frames overlapping as in real use.
        others: cores that other programs kept busy meanwhile, by repetition; empty where the
            system does not report it.
        key_ms, other_ms: latency of each frame, one frame in flight.
        expected: expected disagreement of the same frames; empty where the bundle has no model of
            it.
        stages_ms: times of each stage of the same frames; "runtime" is the rest of the latency:
            threads waking each other and Python between calls.
    """

    frames: int
    seconds: list[float] = field(default_factory=list)
    others: list[float] = field(default_factory=list)
    key_ms: list[float] = field(default_factory=list)
    other_ms: list[float] = field(default_factory=list)
    expected: list[float] = field(default_factory=list)
    stages_ms: dict[str, list[float]] = field(default_factory=dict)

    def add(self, result: Result) -> None:
        """Add the latency and the stage times of a frame that was in flight alone."""
        (self.key_ms if result.is_key else self.other_ms).append(result.latency_s * 1e3)
        if result.expected_disagreement is not None:
            self.expected.append(result.expected_disagreement)
        for name, value in result.stage_ms.items():
            self.stages_ms.setdefault(name, []).append(value)
        rest = result.latency_s * 1e3 - sum(result.stage_ms.values())
        self.stages_ms.setdefault("runtime", []).append(max(rest, 0.0))


def load_images(clips: Sequence[LabelledClip], count: int) -> list[Image]:
    """Return the first ``count`` images of the clips, fewer when they hold fewer."""
    images = (clip.image(index) for clip in clips for index in range(len(clip)))
    return list(islice(images, count))


def whole_intervals(frames: int, interval: int) -> int:
    """Return the multiple of the interval nearest to ``frames``, for the right share of keys."""
    return max(round(frames / interval), 1) * interval


@contextmanager
def open_pipelines(
    bundle: Bundle,
    precisions: Sequence[Precision],
    threads: int | None,
    engine: str,
    overlap: bool | None = None,
    keys: KeyMode = IN_ORDER,
    cuda: CudaOptions | None = None,
) -> Iterator[dict[Precision, Pipeline]]:
    """Open one pipeline per precision, of the usual depth; closed on leaving."""
    with ExitStack() as stack:
        yield {
            precision: stack.enter_context(
                Pipeline.open(
                    bundle,
                    precision=precision,
                    threads=threads,
                    engine=engine,
                    overlap=overlap,
                    keys=keys,
                    cuda=cuda,
                )
            )
            for precision in precisions
        }


def trace_run(
    bundle: Bundle,
    config: Config,
    images: Sequence[Image],
    *,
    frames: int,
    threads: int | None = None,
    engine: str = DEFAULT_BACKEND,
    overlap: bool | None = None,
    keys: KeyMode = IN_ORDER,
    cuda: CudaOptions | None = None,
) -> Trace:
    """Run one configuration with the usual depth, and return the trace of its stages."""
    trace = Trace()
    with Pipeline.open(
        bundle,
        precision=config.precision,
        policy=FixedInterval(config.interval),
        threads=threads,
        engine=engine,
        overlap=overlap,
        keys=keys,
        cuda=cuda,
        trace=trace,
    ) as pipeline:
        for _ in pipeline.run(_frames(images, whole_intervals(frames, config.interval))):
            pass
    return trace


def measure_speed(
    pipelines: Mapping[Precision, Pipeline],
    configs: Sequence[Config],
    images: Sequence[Image],
    *,
    frames: int,
    repetitions: int,
    progress: Callable[[], None] | None = None,
) -> dict[Config, Samples]:
    """Measure each configuration ``repetitions`` times.

    Configurations take turns, every other time in reverse order, so that a machine that becomes
    slower or busier does so for all of them. Frames in flight together come first in each
    repetition, so that compared runs are close together in time; then frames one by one.

    Args:
        pipelines: by precision; their key-frame policy is replaced.
        configs: what to measure.
        images: frames to compute on, again from the start when there are too few.
        frames: about the number of frames of a repetition.
        repetitions: their number.
        progress: called after each configuration of each repetition.
    """
    samples = {config: Samples(whole_intervals(frames, config.interval)) for config in configs}
    for pipeline in pipelines.values():
        pipeline.policy = FixedInterval(2)
        for _ in pipeline.run(_frames(images, _WARM_UP_FRAMES)):
            pass
    for repetition in range(repetitions):
        turn = configs if repetition % 2 == 0 else tuple(reversed(configs))
        for config in turn:
            own = samples[config]
            pipeline = _set_up(pipelines, config)
            before = cpu_usage()
            own.seconds.append(_run_overlapped(pipeline, _frames(images, own.frames)))
            others = cores_of_others(before, cpu_usage())
            own.others += [] if others is None else [others]
        for config in turn:
            own = samples[config]
            for result in _run_one_by_one(_set_up(pipelines, config), _frames(images, own.frames)):
                own.add(result)
            if progress is not None:
                progress()
    return samples


def _set_up(pipelines: Mapping[Precision, Pipeline], config: Config) -> Pipeline:
    pipeline = pipelines[config.precision]
    pipeline.policy = FixedInterval(config.interval)
    return pipeline


def _frames(images: Sequence[Image], count: int) -> list[Frame]:
    return [Frame(image, i, i / _FPS) for i, image in enumerate(islice(cycle(images), count))]


def _run_overlapped(pipeline: Pipeline, frames: Sequence[Frame]) -> float:
    start = time.perf_counter()
    for _ in pipeline.run(frames):
        pass
    return time.perf_counter() - start


def _run_one_by_one(pipeline: Pipeline, frames: Sequence[Frame]) -> Iterator[Result]:
    pipeline.reset()
    for frame in frames:
        pipeline.submit(frame)
        result = pipeline.poll(block=True)
        assert result is not None
        yield result
