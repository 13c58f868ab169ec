"""A forecast against the machine: the choice run on a paced source."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dff_edge.bundle.reader import Bundle
from dff_edge.frames import Image
from dff_edge.plan.candidates import Candidate
from dff_edge.plan.planner import opened
from dff_edge.plan.simulation import Forecast
from dff_edge.plan.timing import answer_live, warm_up, without_advice
from dff_edge.runtime.pipeline import Pipeline
from dff_edge.runtime.policy import parse_policy
from dff_edge.runtime.sources.memory import MemorySource
from dff_edge.runtime.sources.paced import PacedSource


class Speed(NamedTuple):
    """Speed of a live run from its second answer on, forecast or measured.

    Attributes:
        fps: answers per second.
        answered_share: part of the captured frames, 0..1.
        age_p50_s, age_p99_s: of answers, from capture.
        distance_p50: of answers from their key frames, in frames.
    """

    fps: float
    answered_share: float
    age_p50_s: float
    age_p99_s: float
    distance_p50: float

    @classmethod
    def of(cls, forecast: Forecast) -> Speed:
        """Return that of a forecast."""
        return cls(
            forecast.fps,
            forecast.answered_share,
            forecast.age_s(50),
            forecast.age_s(99),
            forecast.distance(50),
        )


def run_paced(pipeline: Pipeline, images: Sequence[Image], *, rate: float, frames: int) -> Speed:
    """Run an open pipeline on a camera that gives ``frames`` frames at a rate.

    Args:
        pipeline: of depth 1, warmed up; it begins anew.
        images: frames of the camera, there and back.
        rate: frames per second.
        frames: their number, at least 2.
    """
    with PacedSource(MemorySource(images, frames), rate) as source:
        results = [answered.result for answered in answer_live(pipeline, source)]
    counted = results[1:]  # as a forecast does
    ages_s = [result.age_s for result in counted if result.age_s is not None]
    p50, p99 = np.percentile(ages_s, [50, 99])
    share = len(counted) / (frames - counted[0].frame.index)
    distance = float(np.median([result.key_distance for result in counted]))
    return Speed(share * rate, share, float(p50), float(p99), distance)


def verify(
    bundle: Bundle, candidate: Candidate, images: Sequence[Image], *, rate: float, frames: int
) -> Speed:
    """Open a candidate as ``dff-edge run`` would, and run it on a paced source.

    Raises:
        EngineError, PipelineError: when a stage fails.
    """
    with without_advice(), opened(bundle, candidate.setup) as pipeline:
        warm_up(pipeline, images)
        pipeline.policy = parse_policy(candidate.policy)
        return run_paced(pipeline, images, rate=rate, frames=frames)
