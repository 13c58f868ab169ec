"""Pipelines on a GPU, emulated where there is none: the same results as in order, and as on a CPU.

The emulated driver makes every operation of a stream late by a chance amount, so that an event
that is not waited for gives other results.
"""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

from dff_edge.bundle.tensors import TensorSpec
from dff_edge.cli import main
from dff_edge.errors import BundleError, EngineError, PipelineError
from dff_edge.evaluation.bundle_predictor import BundlePredictor
from dff_edge.runtime.engines.onnxruntime import OrtEngine
from dff_edge.runtime.engines.open import precisions_for
from dff_edge.runtime.engines.options import CudaOptions
from dff_edge.runtime.pipeline import Pipeline
from dff_edge.runtime.policy import KeyFramePolicy
from dff_edge.runtime.trace import Trace
from tests.deploy.conftest import SOURCE, play_tensorrt
from tests.deploy.test_deploy import deploy
from tests.export.checkpoints import FRAME_SIZE
from tests.report.clips import NoiseClip, write_clips
from tests.runtime.devices.cuda.emulation import ALLOCATING
from tests.runtime.engines.fake_ort import play_cuda_provider
from tests.runtime.engines.fake_tensorrt import VERSIONS

JITTER_US = 300


@pytest.fixture
def trt(monkeypatch, emulation, tmp_path):
    """One version: what differs between them is in the building."""
    return play_tensorrt(next(iter(VERSIONS)), monkeypatch, tmp_path)


@pytest.fixture
def deployed(deployable, cache, trt, built_once):
    """FP32 and INT8 engines in the cache."""
    if not any(built_once.iterdir()):
        for precision in ("fp32", "int8"):
            deploy(deployable, cache, "tensorrt", [precision])
        shutil.copytree(cache.folder, built_once, dirs_exist_ok=True)
    shutil.copytree(built_once, cache.folder, dirs_exist_ok=True)
    return deployable


@pytest.fixture(scope="module")
def built_once(tmp_path_factory):
    return tmp_path_factory.mktemp("engines")


class Bursts(KeyFramePolicy):
    """Key frames in a row, then some apart, so that all their buffers are in use and used again."""

    def __init__(self):
        self._keys = iter([1, 1, 0, 0, 1, 0, 1, 1])

    def is_key(self, context):
        return bool(next(self._keys))


def labels(bundle, frames, *, policy="fixed:4", **how):
    with Pipeline.open(bundle, policy=policy, **how) as pipeline:
        return [result.labels for result in pipeline.run(frames)]


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("graphs", [True, False])
def test_tensorrt_gives_the_same_overlapped_and_in_order(
    deployed, frames, emulation, precision, graphs
):
    how = {"precision": precision, "engine": "tensorrt", "cuda": CudaOptions(graphs=graphs)}
    in_order = labels(deployed, frames, policy=Bursts(), overlap=False, depth=1, **how)
    for seed in range(3):
        emulation.jitter(seed, JITTER_US)
        got = labels(deployed, frames, policy=Bursts(), overlap=True, depth=3, **how)
        np.testing.assert_array_equal(got, in_order)
    assert len({bytes(image) for image in in_order}) > 1, "the frames must differ"


def test_both_drivers_give_the_same(deployed, frames, emulation):
    pytest.importorskip("pycuda.driver", reason="pycuda is not installed: it has no wheels")
    emulation.jitter(1, JITTER_US)
    got = [
        labels(deployed, frames, engine="tensorrt", overlap=True, cuda=CudaOptions(driver=driver))
        for driver in ("cuda-python", "pycuda")
    ]
    np.testing.assert_array_equal(*got)


def test_tensorrt_in_fp32_labels_as_the_cpu_does(deployed, frames):
    got = np.stack(labels(deployed, frames, engine="tensorrt"))
    assert np.mean(got == np.stack(labels(deployed, frames))) >= 0.9999


@pytest.mark.parametrize("has_kernels", [True, False])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_onnxruntime_on_the_gpu_labels_as_the_cpu_does(
    deployable, frames, emulation, monkeypatch, precision, has_kernels
):
    """With the native warp and, without its library, with the portable graph."""
    play_cuda_provider(monkeypatch)
    if not has_kernels:
        monkeypatch.delenv("DFF_CUDA_LIBRARY")
    emulation.jitter(7, JITTER_US)
    trace = Trace()
    got = labels(deployable, frames, precision=precision, engine="cuda", overlap=True, trace=trace)
    assert (
        np.mean(np.stack(got) == np.stack(labels(deployable, frames, precision=precision))) > 0.999
    )
    stages = {span.stage for span in trace.spans}
    assert ("warp" in stages, "propagate" in stages) == (has_kernels, not has_kernels)


def test_steady_state_allocates_nothing_on_the_device(deployed, frames, emulation):
    with Pipeline.open(deployed, engine="tensorrt", policy="fixed:4", overlap=True) as pipeline:
        list(pipeline.run(frames))
        list(pipeline.run(frames))
        before = [emulation.count(name) for name in ALLOCATING]
        list(pipeline.run(frames))
        assert [emulation.count(name) for name in ALLOCATING] == before


def test_submit_waits_for_nothing(deployed, frames, emulation):
    how = {"engine": "tensorrt", "policy": "fixed:4", "overlap": True, "depth": 3}
    with Pipeline.open(deployed, **how) as pipeline:
        list(pipeline.run(frames))
        pipeline.reset()
        before = emulation.count("blocking")
        for frame in frames[:3]:
            pipeline.submit(frame)
        while pipeline.poll(block=True) is not None:
            pass
        waits = emulation.count("blocking") - before
    # The decoding thread's, for each copy out; the caller waits for that thread alone.
    assert waits == 3


def test_failure_of_the_gpu_comes_out_once_and_everything_closes(deployed, frames, emulation):
    how = {"engine": "tensorrt", "policy": "fixed:4", "cuda": CudaOptions(graphs=True)}
    with Pipeline.open(deployed, overlap=True, **how) as pipeline:
        list(pipeline.run(frames))
        emulation.fail("operation", 700)
        with pytest.raises(PipelineError, match="stage failed: .*ILLEGAL_ADDRESS"):
            list(pipeline.run(frames))
        pipeline.reset()


def test_choice_of_overlap_and_of_graphs_is_measured_and_told(deployed, frames, caplog):
    with (
        caplog.at_level(logging.INFO, "dff_edge.runtime"),
        Pipeline.open(deployed, engine="tensorrt", policy="fixed:4") as pipeline,
    ):
        list(pipeline.run(frames))
        assert pipeline.schedule is not None
        assert "frames per second with overlap" in pipeline.schedule.reason
        assert "key interval 4" in pipeline.schedule.reason
    told = [record.getMessage() for record in caplog.records]
    for graph in ("feature", "flow", "task", "propagate"):
        assert sum(f"fp32 {graph}:" in line and "as a graph" in line for line in told) == 1


def test_engines_that_were_not_deployed_are_an_error_with_the_command(deployable, cache, trt):
    with pytest.raises(EngineError, match=r"fp16 feature .* no TensorRT .*--precision fp16"):
        Pipeline.open(deployable, precision="fp16", engine="tensorrt")


def test_precision_that_a_bundle_lacks_for_tensorrt_is_named(tmp_path, cache, trt):
    from tests.bundle.bundles import make_bundle

    with pytest.raises(BundleError, match="no int8 graphs for TensorRT"):
        Pipeline.open(make_bundle(tmp_path / "b"), precision="int8", engine="tensorrt")


def test_graphs_are_refused_where_they_cannot_be(deployable, emulation, monkeypatch):
    play_cuda_provider(monkeypatch)
    with pytest.raises(EngineError, match="CUDA graphs were requested with the engine 'cuda'"):
        Pipeline.open(deployable, engine="cuda", cuda=CudaOptions(graphs=True))


def test_nothing_is_left_when_the_last_engine_cannot_be_opened(deployable, cache, trt):
    """The fixture of the emulated driver counts what is left."""
    deploy(deployable, cache, "tensorrt", ["fp32"])
    for entry in cache.entries():
        if entry.record.key.subnet == "propagate":
            (entry.path / "engine").write_bytes(b"damaged")
    with pytest.raises(EngineError, match="is damaged: its 7 bytes"):
        Pipeline.open(deployable, engine="tensorrt")


def test_precisions_that_each_engine_runs(deployable):
    assert precisions_for(deployable, "onnxruntime") == ("fp32", "fp16", "int8")
    assert precisions_for(deployable, "cuda") == ("fp32", "fp16")
    assert precisions_for(deployable, "tensorrt") == ("fp32", "fp16", "int8")


def test_predictor_on_tensorrt_labels_as_the_pipeline(deployed, frames):
    expected = labels(deployed, frames[:4], precision="int8", engine="tensorrt", overlap=False)
    with BundlePredictor(deployed, "int8", engine="tensorrt") as predictor:
        key = predictor.extract(frames[0].image)
        got = [predictor.predict(key, None)]
        got += [predictor.predict(key, frame.image) for frame in frames[1:4]]
    np.testing.assert_array_equal(got, expected)


def test_frames_on_the_gpu_stay_there(deployable, frames, device, monkeypatch):
    """Labels of images on the device are those of the same images on the host."""
    play_cuda_provider(monkeypatch)
    height, width = FRAME_SIZE  # of which a half is the same bytes in both ways of resizing
    frames = [replace(f, image=np.ascontiguousarray(f.image[:height, :width])) for f in frames]
    far_frames = [replace(f, image=on_device(device, f.image)) for f in frames]
    how = {"engine": "cuda", "overlap": True, "policy": "fixed:4", "confidence": True}
    with Pipeline.open(deployable, **how) as pipeline:
        host = list(pipeline.run(frames))
        far = list(pipeline.run(far_frames))
    assert sorted(far[0].stage_ms) == ["decode", "feature", "resize", "task"]
    assert sorted(far[1].stage_ms) == ["decode", "flow", "resize", "task", "warp"]
    for here, there in zip(host, far, strict=True):
        assert np.mean(here.labels == there.labels.copy_to_host()) >= 0.9999
        sure = there.confidence.copy_to_host().astype(int)
        assert np.abs(here.confidence - sure).max() <= 1


def on_device(device, image):
    """A copy of an image in the device's memory, with ``__cuda_array_interface__``."""
    buffer = device.buffer(TensorSpec("image", image.dtype, image.shape), host=True)
    stream = device.stream("test")
    buffer.array[...] = image
    device.copy_in(buffer, stream)
    stream.synchronize()
    stream.close()
    return buffer


@pytest.fixture
def opened(monkeypatch):
    """Bytes of the graphs that are opened in ONNX Runtime."""
    seen = []

    def noting(data, **how):
        seen.append(data)
        return OrtEngine(data, **how)

    monkeypatch.setattr("dff_edge.runtime.engines.open_cpu.OrtEngine", noting)
    return seen


def test_what_was_optimised_ahead_for_the_cpu_is_taken(deployable, cache, frames, opened):
    expected = labels(deployable, frames)
    (done,) = deploy(deployable, cache, "cpu", ["fp32"])
    opened.clear()
    got = labels(deployable, frames)

    kept = [(report.path / "engine").read_bytes() for report in done.engines.values()]
    assert sorted(opened) == sorted(kept)
    np.testing.assert_array_equal(got, expected)


def test_damaged_engine_of_the_cpu_is_told_and_not_taken(deployable, cache, frames, opened, caplog):
    (done,) = deploy(deployable, cache, "cpu", ["fp32"])
    (done.engines["flow"].path / "engine").write_bytes(b"damaged")
    opened.clear()
    labels(deployable, frames)

    assert opened[1] == deployable.graph_bytes("fp32", "flow")
    assert "is damaged" in caplog.text
    assert "own flow graph is used" in caplog.text


@pytest.mark.parametrize("options", [(), ("--graphs", "off", "--overlap", "off")])
def test_run_and_benchmark_take_the_deployed_engines(deployed, tmp_path, options):
    numbers, timeline = tmp_path / "numbers.json", tmp_path / "timeline.png"
    common = ("--engine", "tensorrt", "--json", str(numbers), *options)
    done = CliRunner().invoke(main, ["run", str(deployed.path), SOURCE, "--frames", "6", *common])
    assert done.exit_code == 0, done.output
    assert json.loads(numbers.read_text())["frames"] == 6

    quick = ("--intervals", "2", "--frames", "4", "--repetitions", "1", "--precisions", "int8")
    data = write_clips(tmp_path / "data", [NoiseClip(1, length=3)])
    more = (*quick, "--source", str(data), "--timeline", str(timeline))
    done = CliRunner().invoke(main, ["benchmark", str(deployed.path), *more, *common])
    assert done.exit_code == 0, done.output
    settings = json.loads(numbers.read_text())["settings"]
    assert settings["engine"] == "tensorrt"
    told = settings["schedules"]["int8"]
    assert ("as requested" if options else "frames per second with overlap") in told
    lanes = json.loads(timeline.with_suffix(".json").read_text())["traceEvents"]
    streams = {event["args"]["name"] for event in lanes if event["name"] == "thread_name"}
    assert "networks" in streams or {"copy in", "flow", "task", "copy out"} <= streams


@pytest.mark.parametrize("graphs", [True, False])
def test_closing_twice_is_allowed(deployed, frames, graphs):
    """The device is closed by then."""
    how = {"engine": "tensorrt", "overlap": True, "cuda": CudaOptions(graphs=graphs)}
    with Pipeline.open(deployed, **how) as pipeline:
        list(pipeline.run(frames[:3]))
        pipeline.close()
