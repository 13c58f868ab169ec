"""Staleness of answers on a GPU, emulated where there is none: as on the CPU, in any timing."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest

from dff_edge.runtime.pipeline import Pipeline
from tests.bundle.staleness_models import with_staleness
from tests.deploy.test_run_deployed import JITTER_US, on_device
from tests.runtime.engines.fake_ort import play_cuda_provider


def expected_of(bundle, frames, engine, **how):
    with Pipeline.open(bundle, engine=engine, policy="fixed:4", **how) as pipeline:
        return [result.expected_disagreement for result in pipeline.run(frames)]


@pytest.mark.parametrize("place", ["host", "device"])
@pytest.mark.parametrize("overlap", [True, False])
def test_staleness_on_a_gpu_is_that_of_the_cpu_under_any_delays(
    deployable, frames, device, emulation, monkeypatch, tmp_path, overlap, place
):
    play_cuda_provider(monkeypatch)
    bundle = with_staleness(shutil.copytree(deployable.path, tmp_path / "bundle"))
    expected = expected_of(bundle, frames, "onnxruntime")
    assert len(set(expected)) > 4
    if place == "device":
        frames = [replace(frame, image=on_device(device, frame.image)) for frame in frames]
    for seed in range(3):
        emulation.jitter(seed, JITTER_US)
        found = expected_of(bundle, frames, "cuda", overlap=overlap, depth=3)
        emulation.jitter(0, 0)
        # Resizing on the device differs from the host's by rounding.
        assert found == pytest.approx(expected, rel=0.02 if place == "device" else 1e-5)
