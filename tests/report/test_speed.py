"""How speed is measured: turns, shares of key frames, one frame in flight."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pytest

from dff_edge.frames import Frame, Result
from dff_edge.report.speed import Config, Samples, load_images, measure_speed, whole_intervals
from dff_edge.runtime.policy import FixedInterval
from tests.report.clips import NoiseClip

ATOL_MS = 1e-9  # sums of doubles


class FakePipeline:
    """Notes what is asked of it; stands in for a pipeline of any precision."""

    def __init__(self, name: str, log: list[str]) -> None:
        self.policy: Any = FixedInterval(1)
        self._name = name
        self._log = log
        self._waiting: list[Frame] = []

    def run(self, frames: Iterable[Frame]) -> Iterator[Result]:
        frames = list(frames)
        self._log.append(f"{self._name} {self.policy.interval}: {len(frames)}")
        return iter([self._result(frame) for frame in frames])

    def reset(self) -> None:
        assert not self._waiting
        self._log.append(f"{self._name} {self.policy.interval}: one by one")

    def submit(self, frame: Frame) -> None:
        assert not self._waiting, "two frames in flight where one is measured"
        self._waiting.append(frame)

    def poll(self, *, block: bool) -> Result | None:
        assert block
        return self._result(self._waiting.pop())

    def _result(self, frame: Frame) -> Result:
        key = frame.index - frame.index % self.policy.interval
        labels = np.zeros(frame.image.shape[:2], np.uint8)
        return Result(frame, labels, key, latency_s=0.005, stage_ms={"flow": 3.0, "task": 1.5})


@pytest.mark.parametrize(
    ("frames", "interval", "expected"), [(60, 10, 60), (20, 3, 21), (4, 10, 10), (7, 5, 5)]
)
def test_frames_become_whole_key_intervals(frames: int, interval: int, expected: int) -> None:
    assert whole_intervals(frames, interval) == expected


def test_configurations_take_turns_and_change_ends() -> None:
    log: list[str] = []
    pipelines = {"fp32": FakePipeline("fp32", log), "int8": FakePipeline("int8", log)}
    images = load_images([NoiseClip(1)], 3)
    steps: list[None] = []

    samples = measure_speed(
        pipelines,  # type: ignore[arg-type]
        [Config("fp32", 1), Config("int8", 2)],
        images,
        frames=5,
        repetitions=2,
        progress=lambda: steps.append(None),
    )

    warm_up = ["fp32 2: 4", "int8 2: 4"]
    # What is compared lies close together: first frames in flight, then one by one.
    together, alone = ["fp32 1: 5", "int8 2: 4"], ["fp32 1: one by one", "int8 2: one by one"]
    assert log == [*warm_up, *together, *alone, *together[::-1], *alone[::-1]]
    assert len(steps) == 4
    int8 = samples[Config("int8", 2)]
    assert (len(int8.seconds), len(int8.key_ms), len(int8.other_ms)) == (2, 4, 4)
    assert samples[Config("fp32", 1)].other_ms == []


def test_what_latency_is_left_is_the_runtimes_own() -> None:
    image = np.zeros((4, 6, 3), np.uint8)
    samples = Samples(frames=1)
    samples.add(Result(Frame(image, 3, 0.0), image[..., 0], 1, 0.008, {"flow": 5.0, "task": 1.0}))

    assert samples.other_ms == [8.0]
    assert samples.key_ms == []
    assert samples.stages_ms["runtime"] == pytest.approx([2.0], abs=ATOL_MS)


def test_images_are_those_of_the_clips_in_order() -> None:
    clips = [NoiseClip(1, length=2), NoiseClip(2, length=2)]
    images = load_images(clips, 3)

    assert len(images) == 3
    assert (images[2] == clips[1].image(0)).all()
    assert len(load_images(clips, 9)) == 4
