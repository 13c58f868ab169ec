"""Key frames that no policy was asked about: after a gap, of another size, at a cut, on demand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dff_edge.errors import PipelineError
from dff_edge.frames import Frame
from dff_edge.runtime.pipeline import Pipeline
from tests.bundle.bundles import make_bundle
from tests.runtime.policies import Recorder, frame


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return make_bundle(tmp_path_factory.mktemp("bundle") / "small", (32, 64))


class CutAt(Recorder):
    """Sees a cut at one frame, each time that it is asked about it, and wants no key frame."""

    def __init__(self, index: int) -> None:
        super().__init__()
        self.index = index

    def is_cut(self, frame: Frame) -> bool:
        return frame.index == self.index


def test_change_of_size_forces_a_key_frame(bundle):
    rng = np.random.default_rng(7)
    sizes = [(80, 160)] * 3 + [(200, 64)] * 2
    images = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
    with Pipeline.open(bundle, policy="fixed:10", threads=1) as pipeline:
        results = list(pipeline.run(Frame(image, i, i / 30) for i, image in enumerate(images)))
    assert [result.key_index for result in results] == [0, 0, 0, 3, 3]
    assert results[3].labels.shape == (200, 64)


def test_no_flow_is_computed_from_one_segment_to_another(bundle):
    with Pipeline.open(bundle, policy="fixed:100", threads=1) as pipeline:
        frames = [frame(i, i / 30, segment=int(i >= 3)) for i in range(6)]
        keys = [result.key_index for result in pipeline.run(frames)]
    assert keys == [0, 0, 0, 3, 3, 3]


def test_an_image_without_a_number_is_of_the_segment_before_it(bundle):
    with Pipeline.open(bundle, policy="fixed:100", threads=1, depth=2) as pipeline:
        pipeline.submit(frame(0, 0.0, segment=3))
        pipeline.submit(np.zeros((40, 60, 3), np.uint8))
        assert [pipeline.poll(block=True).key_index for _ in range(2)] == [0, 0]


def test_a_forced_key_frame_is_the_next_one_only(bundle):
    with Pipeline.open(bundle, policy="fixed:100", threads=1, depth=1) as pipeline:
        keys = []
        for i in range(5):
            if i == 2:
                pipeline.force_key()
            pipeline.submit(frame(i, i / 30))
            keys.append(pipeline.poll(block=True).key_index)
    assert keys == [0, 0, 2, 2, 2]


def test_a_policy_is_not_asked_whether_a_forced_key_frame_is_one(bundle):
    recorder = Recorder()
    with Pipeline.open(bundle, policy=recorder, threads=1, depth=3) as pipeline:
        pipeline.submit(frame(0, 0.0))
        pipeline.force_key()
        pipeline.submit(frame(1, 0.1))
        pipeline.submit(frame(2, 0.2))
    assert [(seen.frame.index, seen.distance) for seen in recorder.seen] == [(2, 1)]


@pytest.mark.parametrize("by", ["the user", "the policy"])
def test_a_key_frame_whose_submission_was_refused_is_owed_still(bundle, by):
    policy = CutAt(1 if by == "the policy" else -1)
    with Pipeline.open(bundle, policy=policy, threads=1, depth=1) as pipeline:
        pipeline.submit(frame(0, 0.0))
        if by == "the user":
            pipeline.force_key()
        with pytest.raises(PipelineError, match="1 frames are in flight"):
            pipeline.submit(frame(1, 0.1))
        assert pipeline.poll(block=True).key_index == 0
        pipeline.submit(frame(2, 0.2))  # frame 1 was given up
        assert pipeline.poll(block=True).key_index == 2
        pipeline.submit(frame(3, 0.3))
        assert pipeline.poll(block=True).key_index == 2
