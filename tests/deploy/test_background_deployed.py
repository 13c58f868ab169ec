"""Key frames in the background on a GPU, emulated where there is none: results whatever the timing.

The emulated driver makes every operation of a stream late by a chance amount, so that an event
that is not waited for gives other results.
"""

from __future__ import annotations

import ctypes
from dataclasses import replace

import numpy as np
import pytest

from dff_edge.deploy.check import answer_frames
from dff_edge.errors import EngineError, PipelineError
from dff_edge.evaluation.bundle_predictor import BundlePredictor
from dff_edge.runtime.engines.options import CudaOptions
from dff_edge.runtime.keys import BACKGROUND, KeyMode
from dff_edge.runtime.pipeline import Pipeline
from dff_edge.runtime.policy import KeyFramePolicy
from tests.deploy.test_run_deployed import (
    JITTER_US,
    Bursts,
    built_once,  # noqa: F401
    deployed,  # noqa: F401
    on_device,
    trt,  # noqa: F401
)
from tests.runtime.devices.cuda.emulation import ALLOCATING
from tests.runtime.engines.fake_ort import play_cuda_provider
from tests.runtime.lagged import Shot, lagged


class Always(KeyFramePolicy):
    """A key frame whenever none is pending: all buffers of key frames are in use."""

    def is_key(self, context):
        return True


def reference(bundle, frames, lag, precision, engine):
    """Key frames and label maps, one call of an engine after the other."""
    how = {"cuda": CudaOptions(graphs=False)}
    with BundlePredictor(bundle, precision, engine=engine, **how) as predictor:

        def answer(key, key_index, index):
            own = key_index == index
            return predictor.predict(key, None if own else frames[index].image)

        return lagged(
            [Shot(frame.index, frame.index, False) for frame in frames],
            lag,
            lambda distance: True,
            lambda index: predictor.extract(frames[index].image),
            answer,
        )


def play(bundle, frames, **how):
    with Pipeline.open(bundle, **how) as pipeline:
        return list(pipeline.run(frames))


@pytest.mark.parametrize("overlap", [True, False])
@pytest.mark.parametrize(("lag", "depth"), [(1, 3), (2, 2), (3, 1)])
def test_a_lag_gives_the_reference_under_any_delays(
    deployed,  # noqa: F811
    frames,
    emulation,
    lag,
    depth,
    overlap,
):
    frames = [replace(frame, index=index) for index, frame in enumerate([*frames, *frames])]
    expected = reference(deployed, frames, lag, "fp32", "tensorrt")
    how = {"engine": "tensorrt", "keys": f"lag:{lag}", "depth": depth, "overlap": overlap}
    for seed in range(3):
        emulation.jitter(seed, JITTER_US)
        results = play(deployed, frames, policy=Always(), **how)
        emulation.jitter(0, 0)
        assert [result.key_index for result in results] == [key for key, _ in expected]
        for result, (_, labels) in zip(results, expected, strict=True):
            np.testing.assert_array_equal(result.labels, labels)
    assert len({labels.tobytes() for _, labels in expected}) > len(frames) // 4


@pytest.mark.parametrize("engine", ["tensorrt", "cuda"])
def test_in_the_background_every_answer_is_that_of_its_key_frame(
    deployed,  # noqa: F811
    frames,
    emulation,
    monkeypatch,
    engine,
):
    if engine == "cuda":
        play_cuda_provider(monkeypatch)
    frames = [replace(frame, index=index) for index, frame in enumerate(frames * 3)]
    how = {"engine": engine, "keys": "background", "overlap": True, "depth": 2}
    with BundlePredictor(
        deployed, "fp32", engine=engine, cuda=CudaOptions(graphs=False)
    ) as predictor:
        keys = [predictor.extract(frame.image) for frame in frames[:9]]
        for seed in (1, 2):
            emulation.jitter(seed, JITTER_US)
            results = play(deployed, frames, **how)
            emulation.jitter(0, 0)
            assert len({result.key_index for result in results}) > 2
            for result in results:
                own = result.is_key
                image = None if own else result.frame.image
                labels = predictor.predict(keys[result.key_index % 9], image)
                np.testing.assert_array_equal(result.labels, labels)


def test_images_on_the_gpu_in_the_background(deployable, frames, device, emulation, monkeypatch):
    """Resizing there is stream work too: answers are those of a run without delays."""
    play_cuda_provider(monkeypatch)
    far = [replace(frame, image=on_device(device, frame.image)) for frame in frames]
    how = {"engine": "cuda", "keys": "lag:2", "policy": Always(), "depth": 2, "overlap": True}
    expected = [result.labels.copy_to_host() for result in play(deployable, far, **how)]
    emulation.jitter(5, JITTER_US)
    for result, labels in zip(play(deployable, far, **how), expected, strict=True):
        np.testing.assert_array_equal(result.labels.copy_to_host(), labels)


def test_features_have_a_lower_priority_than_the_rest(
    deployed,  # noqa: F811
    driver_library,
    monkeypatch,
):
    def priority(device, stream):
        value = ctypes.c_int()
        with device.current():
            driver_library.cuStreamGetPriority(ctypes.c_void_p(stream.handle), ctypes.byref(value))
        return value.value

    play_cuda_provider(monkeypatch)
    for engine in ("tensorrt", "cuda"):
        with Pipeline.open(deployed, engine=engine, keys="background", overlap=True) as pipeline:
            scheduler, device = pipeline._scheduler, pipeline._opened.device
            streams = [scheduler._streams.flow, scheduler._streams.task, scheduler._streams.copy_in]
            feature = [scheduler._streams.feature]
            if engine == "cuda":  # which computes on streams of its own
                subnets = pipeline._opened.subnets
                streams += [subnets.flow._stream, subnets.task._stream]
                feature.append(subnets.feature._stream)
            assert {priority(device, stream) for stream in streams} == {-1}
            assert {priority(device, stream) for stream in feature} == {0}


def test_the_steady_state_allocates_nothing(deployed, frames, emulation):  # noqa: F811
    how = {"engine": "tensorrt", "policy": "fixed:2", "overlap": True, "keys": "lag:2"}
    with Pipeline.open(deployed, **how) as pipeline:
        for _ in range(3):
            list(pipeline.run(frames))
        before = [emulation.count(name) for name in ALLOCATING]
        list(pipeline.run(frames))
        assert [emulation.count(name) for name in ALLOCATING] == before


def test_a_gpu_that_fails_in_the_middle_of_a_key_frame(deployed, frames, emulation):  # noqa: F811
    how = {"engine": "tensorrt", "keys": "background", "policy": Bursts(), "overlap": True}
    with Pipeline.open(deployed, **how) as pipeline:
        list(pipeline.run(frames))
        pipeline.policy = Always()
        emulation.fail("operation", 700)
        with pytest.raises(PipelineError, match="stage failed: .*ILLEGAL_ADDRESS"):
            list(pipeline.run(frames))


def test_pycuda_has_no_priorities_and_says_so(deployed):  # noqa: F811
    pytest.importorskip("pycuda.driver", reason="pycuda is not installed: it has no wheels")
    cuda = CudaOptions(driver="pycuda")
    with pytest.raises(EngineError, match="streams of priority"):
        Pipeline.open(deployed, engine="tensorrt", keys="background", cuda=cuda)


def test_the_check_of_deploy_answers_as_a_run_with_a_lag(deployable, frames):
    with Pipeline.open(deployable, policy="fixed:4", keys="lag:2", threads=1) as pipeline:
        expected = [result.labels for result in pipeline.run(frames)]
        opened, decoder = pipeline._opened, pipeline._scheduler._enqueuer._decoder
        for keys in (KeyMode(2), BACKGROUND):
            got = answer_frames(opened.device, opened.subnets, decoder, frames, keys)
            np.testing.assert_array_equal(got, expected)
