"""Key frames in the background, on a camera that is played."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict

from dff_edge.bundle.reader import Bundle
from dff_edge.errors import ConfigError
from dff_edge.experiment.frontier.config import CameraConfig
from dff_edge.frames import Image, Result
from dff_edge.plan.timing import answer_live, warm_up, without_advice
from dff_edge.runtime.keys import BACKGROUND
from dff_edge.runtime.pipeline import Pipeline
from dff_edge.runtime.sources.memory import MemorySource
from dff_edge.runtime.sources.paced import PacedSource


class LiveRun(BaseModel):
    """Outcome of a run with key frames in the background, from its second answer on.

    Attributes:
        lag: n, frames after which the features of a key frame were used: the median.
        answer_ms: time of an answer beside the feature network: the median.
        age_p99_ms: 99th percentile of the age of an answer, from capture.
        answered_share: part of the captured frames that was answered, 0..1.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    lag: int
    answer_ms: float
    age_p99_ms: float
    answered_share: float


def run_live(bundle: Bundle, images: Sequence[Image], camera: CameraConfig) -> LiveRun:
    """Play a camera to a bundle in INT8; a key frame is begun as soon as the one before is done.

    The runtime chooses how many threads the feature network has. Takes ``frames / rate`` seconds,
    and some more.

    Args:
        bundle: holds INT8.
        images: frames of the camera, there and back.
        camera: rate and number of frames.

    Raises:
        ConfigError: too few frames for a second key frame.
        EngineError, PipelineError: a stage failed.
    """
    with (
        without_advice(),
        Pipeline.open(
            bundle, precision="int8", policy="idle", depth=1, keys=BACKGROUND
        ) as pipeline,
    ):
        warm_up(pipeline, images)
        with PacedSource(MemorySource(images, camera.frames), camera.rate) as source:
            results = [answered.result for answered in answer_live(pipeline, source)]
    return summarise(results, camera.frames)


def summarise(results: Sequence[Result], frames: int) -> LiveRun:
    """Summarise the results of a camera that captured so many frames.

    Raises:
        ConfigError: there was no second key frame.
    """
    counted = results[1:]  # the first waits for its own features
    first_use: dict[int, int] = {}
    for result in counted:
        first_use.setdefault(result.key_index, result.key_distance)
    lags = [lag for key, lag in first_use.items() if key != results[0].key_index]
    if not lags:
        raise ConfigError(
            f"a camera of {frames} frames ended before a second key frame was ready. Give a larger "
            "camera.frames."
        )
    ages_s = [result.age_s for result in counted if result.age_s is not None]
    return LiveRun(
        lag=max(1, statistics.median_high(lags)),
        answer_ms=1e3 * statistics.median(result.latency_s for result in counted),
        age_p99_ms=1e3 * float(np.percentile(ages_s, 99)),
        answered_share=len(counted) / (frames - 1 - results[0].frame.index),
    )
