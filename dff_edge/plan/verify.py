"""A forecast against the machine: the choice run on a paced source."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import NamedTuple

from dff_edge.bundle.reader import Bundle
from dff_edge.frames import Image, Result
from dff_edge.lifetime import Worker
from dff_edge.plan.candidates import Candidate
from dff_edge.plan.planner import opened
from dff_edge.plan.simulation import Forecast, percentile
from dff_edge.plan.timing import answer_live, warm_up, without_advice
from dff_edge.runtime.pipeline import Pipeline
from dff_edge.runtime.policy import parse_policy
from dff_edge.runtime.sources.memory import MemorySource
from dff_edge.runtime.sources.paced import PacedSource

_TWO_KINDS = 1.2  # times the 48th percentile of the age, of the 52nd


class Speed(NamedTuple):
    """Speed of a live run from its second answer on, forecast or measured.

    Attributes:
        fps: answers per second.
        answered_share: part of the captured frames, 0..1.
        age_p50_s, age_p99_s: of answers, from capture.
        age_p48_s, age_p52_s: those around the median. Far apart where about half of the answers
            are key frames that are waited for, and the median is one kind or the other.
        distance_p50: of answers from their key frames, in frames.
    """

    fps: float
    answered_share: float
    age_p50_s: float
    age_p99_s: float
    age_p48_s: float
    age_p52_s: float
    distance_p50: float

    @property
    def medians_s(self) -> tuple[float, float, float]:
        """The percentiles around the median."""
        return self.age_p48_s, self.age_p50_s, self.age_p52_s

    @property
    def has_two_medians(self) -> bool:
        """Whether the median is either of two kinds of answers."""
        return self.age_p52_s > _TWO_KINDS * self.age_p48_s

    @classmethod
    def of(cls, forecast: Forecast) -> Speed:
        """Return that of a forecast."""
        return cls(
            forecast.fps,
            forecast.answered_share,
            age_p50_s=forecast.age_s(50),
            age_p99_s=forecast.age_s(99),
            age_p48_s=forecast.age_s(48),
            age_p52_s=forecast.age_s(52),
            distance_p50=forecast.distance(50),
        )


def off(expected: Speed, measured: Speed) -> dict[str, float]:
    """Return errors of a forecast, (expected - measured) / measured, by field of ``Speed``.

    The distance has none, which is of a few frames. Where the 48th and 52nd percentile of the age
    lie far apart in either, about half of the answers are key frames, and a frame more or less
    makes the median one kind or the other: then its error is the least with one of these
    percentiles in its place.
    """
    fields = ("fps", "answered_share", "age_p99_s")
    errors = {name: _off(getattr(expected, name), getattr(measured, name)) for name in fields}
    medians = [(expected.age_p50_s, measured.age_p50_s)]
    if expected.has_two_medians or measured.has_two_medians:
        medians = [(own, other) for own in expected.medians_s for other in measured.medians_s]
    errors["age_p50_s"] = min((_off(*pair) for pair in medians), key=abs)
    return errors


def _off(expected: float, measured: float) -> float:
    return (expected - measured) / measured


def verify(
    bundle: Bundle,
    candidate: Candidate,
    images: Sequence[Image],
    *,
    rate: float,
    frames: int,
    streams: int = 1,
) -> Speed:
    """Open a candidate as ``dff-edge run`` would, and run it on paced sources.

    Args:
        bundle: the bundle.
        candidate: how to run it.
        images: frames of the cameras, there and back.
        rate: of each camera, frames per second.
        frames: that each camera gives, at least 2.
        streams: number of cameras.

    Raises:
        EngineError, PipelineError: when a stage fails.
    """
    with ExitStack() as stack:
        stack.enter_context(without_advice())
        pipelines = stack.enter_context(opened(bundle, candidate.setup, streams))
        for pipeline in pipelines:
            warm_up(pipeline, images)
            pipeline.policy = parse_policy(candidate.policy)
        cameras = [_Camera(pipeline, images, rate, frames) for pipeline in pipelines]
        threads = [Worker(camera.run, "dff-plan camera") for camera in cameras]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for camera in cameras:
        if camera.failure is not None:
            raise camera.failure
    counted = [result for camera in cameras for result in camera.results[1:]]  # as a forecast does
    captured = sum(frames - camera.results[1].frame.index for camera in cameras)
    ages_s = [result.age_s for result in counted if result.age_s is not None]
    share = len(counted) / captured
    return Speed(
        share * rate,
        share,
        age_p50_s=percentile(ages_s, 50),
        age_p99_s=percentile(ages_s, 99),
        age_p48_s=percentile(ages_s, 48),
        age_p52_s=percentile(ages_s, 52),
        distance_p50=percentile([result.key_distance for result in counted], 50),
    )


class _Camera:
    """A camera and its pipeline, which answers it in a thread of its own."""

    def __init__(
        self, pipeline: Pipeline, images: Sequence[Image], rate: float, frames: int
    ) -> None:
        self._pipeline, self._images = pipeline, images
        self._rate, self._frames = rate, frames
        self.results: list[Result] = []
        self.failure: Exception | None = None

    def run(self) -> None:
        """Answer its frames."""
        try:
            with PacedSource(MemorySource(self._images, self._frames), self._rate) as source:
                for answered in answer_live(self._pipeline, source):
                    self.results.append(answered.result)
        except Exception as error:  # raised where it is waited for
            self.failure = error
        self._pipeline.close()  # its turns at the networks: the others may go on
