"""Detectors on a GPU, emulated where there is none: the same boxes as in order, and as on a CPU.

Their graphs end before suppression, which such targets do not take; native code goes on there.
"""

from __future__ import annotations

import numpy as np
import pytest

from dff_edge.detection_matching import partners
from dff_edge.errors import EngineError
from dff_edge.runtime.pipeline import Pipeline
from tests.deploy.conftest import play_tensorrt
from tests.deploy.test_deploy import deploy
from tests.export.checkpoints import tiny_bundle
from tests.runtime.engines.fake_ort import play_cuda_provider
from tests.runtime.engines.fake_tensorrt import VERSIONS

JITTER_US = 300


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return tiny_bundle(tmp_path_factory, task="detection")


def detections(bundle, frames, **how):
    with Pipeline.open(bundle, policy="fixed:4", **how) as pipeline:
        return [result.detections for result in pipeline.run(frames)]


def assert_same(found, expected):
    """Scores of an untrained network are nearly ties, whose order decides what is suppressed."""
    again = []
    for ours, theirs in zip(found, expected, strict=True):
        assert len(ours) == len(theirs)
        again += list(partners(theirs, ours, min_iou=0.99, max_score_error=1e-4) >= 0)
    assert np.mean(again) > 0.99


def test_tensorrt_detects_as_the_cpu_does(bundle, frames, cache, emulation, monkeypatch, tmp_path):
    play_tensorrt(next(iter(VERSIONS)), monkeypatch, tmp_path)
    deploy(bundle, cache, "tensorrt", ["fp32"])
    on_cpu = detections(bundle, frames)

    in_order = detections(bundle, frames, engine="tensorrt", overlap=False, depth=1)
    emulation.jitter(3, JITTER_US)
    overlapped = detections(bundle, frames, engine="tensorrt", overlap=True, depth=3)

    assert_same(in_order, on_cpu)
    for ours, theirs in zip(overlapped, in_order, strict=True):
        np.testing.assert_array_equal(ours.boxes, theirs.boxes)


def test_onnxruntime_on_the_gpu_detects_as_the_cpu_does(bundle, frames, emulation, monkeypatch):
    play_cuda_provider(monkeypatch)
    emulation.jitter(7, JITTER_US)

    assert_same(detections(bundle, frames, engine="cuda"), detections(bundle, frames))


def test_onnxruntime_on_the_gpu_without_kernels_is_refused(bundle, frames, emulation, monkeypatch):
    play_cuda_provider(monkeypatch)
    monkeypatch.delenv("DFF_CUDA_LIBRARY")

    with pytest.raises(EngineError, match=r"libdff_cuda\.so was not built, and the engine 'cuda'"):
        detections(bundle, frames, engine="cuda")
