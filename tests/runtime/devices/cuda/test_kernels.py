"""Warp, resize and decode as the device calls them; the kernels' own tests are in tests/cpp."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from dff_edge.bundle.levels import INT8, Levels, MapLevels
from dff_edge.bundle.tensors import TensorSpec
from dff_edge.errors import (
    ConfigError,
    EngineError,
    MissingDependencyError,
    PipelineError,
    ShapeError,
)
from dff_edge.runtime.devices.cuda.memory import DeviceArray
from dff_edge.runtime.kernels.decode import decode_labels
from dff_edge.runtime.kernels.warp import warp_features
from tests.runtime.devices.cuda.emulation import ALLOCATING

ATOL = 1e-5  # float32, four products and three sums of values near 1, fused on GPUs
HALF_ATOL = 4e-3  # one rounding to float16 of values up to 8
SHAPE, FLOW_SHAPE = (1, 5, 7, 16), (1, 5, 7, 2)
SYMMETRIC = MapLevels(features=Levels(0.05, 0, INT8), scale=Levels(1 / 32, 0, INT8))


class Maps:
    """Buffers of a warp, filled."""

    def __init__(self, device, dtype=np.float32, *, flow_shape=FLOW_SHAPE):
        rng = np.random.default_rng(3)
        if dtype == np.int8:
            features, scale = rng.integers(-128, 128, (2, *SHAPE)).astype(np.int8)
        else:
            features, scale = rng.standard_normal((2, *SHAPE)).astype(dtype)
        flow = rng.uniform(-3, 3, flow_shape).astype(np.float32)
        self.values = {"features": features, "flow": flow, "scale": scale}
        self.buffers = {
            name: device.buffer(TensorSpec(name, array.dtype, array.shape), host=True)
            for name, array in (*self.values.items(), ("out", np.empty_like(features)))
        }
        self.device = device

    def warp(self, stream, levels=None, *, copy_stream=None):
        """Copy in on one stream, warp on another, copy out on the first."""
        copy = copy_stream or stream
        copied, warped = stream.event(), stream.event()
        for name, array in self.values.items():
            self.buffers[name].array[...] = array
            self.device.copy_in(self.buffers[name], copy)
        copy.record(copied)
        stream.wait(copied)
        self.device.warp(*self.buffers.values(), stream, levels)
        stream.record(warped)
        copy.wait(warped)
        self.device.copy_out(self.buffers["out"], copy)
        copy.synchronize()
        return self.buffers["out"].array.copy()


@pytest.fixture
def stream(any_device):
    stream = any_device.stream("task")
    yield stream
    stream.close()


@pytest.mark.parametrize(("dtype", "atol"), [(np.float32, ATOL), (np.float16, HALF_ATOL)])
def test_the_warp_is_that_of_the_cpu(any_device, stream, dtype, atol):
    maps = Maps(any_device, dtype)
    expected = warp_features(
        maps.values["features"].astype(np.float32),
        maps.values["flow"],
        maps.values["scale"].astype(np.float32),
    )

    np.testing.assert_allclose(maps.warp(stream), expected, rtol=0, atol=atol)


def test_the_warp_of_bytes_is_rounded_once(any_device, stream):
    maps = Maps(any_device, np.int8)
    step = SYMMETRIC.scale.step
    exact = warp_features(
        maps.values["features"].astype(np.float32),
        maps.values["flow"],
        maps.values["scale"].astype(np.float32) * np.float32(step),
    )
    warped = maps.warp(stream, SYMMETRIC).astype(np.float32)

    # Half a level, and what the order of float32 products can add.
    assert np.abs(warped - np.clip(exact, -128, 127)).max() <= 0.5 + 1e-3


def test_no_scale_is_a_scale_of_one(any_device, stream):
    maps = Maps(any_device)
    with_one = dict(maps.values, scale=np.ones(SHAPE, np.float32))
    maps.values = with_one
    expected = maps.warp(stream)
    maps.buffers["out"].array[...] = 0
    buffers = dict(maps.buffers, scale=None)
    any_device.warp(*buffers.values(), stream)
    any_device.copy_out(maps.buffers["out"], stream)
    stream.synchronize()

    np.testing.assert_array_equal(maps.buffers["out"].array, expected)


def test_the_warp_is_in_order_with_copies_of_another_stream(any_device, stream, emulation):
    emulation.jitter(seed=5, max_us=2000)
    copy, maps = any_device.stream("copy"), Maps(any_device)
    for _ in range(10):
        maps.values["features"] = maps.values["features"][:, ::-1].copy()
        expected = warp_features(*maps.values.values())
        np.testing.assert_allclose(maps.warp(stream, copy_stream=copy), expected, rtol=0, atol=ATOL)
    copy.close()


def test_maps_that_do_not_fit_are_refused(any_device, stream):
    wide, maps = Maps(any_device, flow_shape=(1, 5, 8, 2)), Maps(any_device)

    with pytest.raises(ShapeError, match=r"flow is flow: float32 \(1, 5, 8, 2\), expected float32"):
        any_device.warp(*wide.buffers.values(), stream)
    with pytest.raises(ShapeError, match=r"out is flow: .*, expected that of features"):
        any_device.warp(*[*list(maps.buffers.values())[:3], maps.buffers["flow"]], stream)


def test_levels_belong_to_bytes_and_bytes_to_levels(any_device, stream):
    floats, bytes_ = Maps(any_device), Maps(any_device, np.int8)

    with pytest.raises(ConfigError, match="levels came with maps of float32"):
        any_device.warp(*floats.buffers.values(), stream, SYMMETRIC)
    with pytest.raises(ConfigError, match="no levels came with maps of int8"):
        any_device.warp(*bytes_.buffers.values(), stream)


def test_levels_that_are_not_symmetric_are_refused(any_device, stream):
    levels = MapLevels(features=Levels(0.05, 3, INT8), scale=Levels(1 / 32, 0, INT8))

    with pytest.raises(ConfigError, match="are 3 and 0, expected 0 and 0"):
        any_device.warp(*Maps(any_device, np.int8).buffers.values(), stream, levels)


def test_missing_kernels_are_told_with_how_to_build_them(any_device, stream, monkeypatch):
    monkeypatch.setenv("DFF_CUDA_LIBRARY", "/nowhere/libdff_cuda.so")

    with pytest.raises(MissingDependencyError, match=r"/nowhere/libdff_cuda.so.*DFF_CUDA=ON"):
        any_device.warp(*Maps(any_device).buffers.values(), stream)


def test_a_library_that_is_none_is_refused(any_device, tmp_path, monkeypatch):
    path = tmp_path / "libdff_cuda.so"
    path.write_bytes(b"not a library")
    monkeypatch.setenv("DFF_CUDA_LIBRARY", str(path))

    with pytest.raises(EngineError, match="cannot be used"):
        any_device.kernels  # noqa: B018


def test_the_kernels_reason_is_told(any_device, stream):
    scores = any_device.buffer(TensorSpec("scores", np.dtype(np.float32), (1, 2, 3, 300)))

    with pytest.raises(EngineError, match="dff_cuda_decode failed: a size is negative or beyond"):
        any_device.decode(scores, (4, 6), stream, confidence=False)


def scores_on(device, stream):
    values = np.random.default_rng(4).standard_normal((1, 3, 5, 7)).astype(np.float32)
    buffer = device.buffer(TensorSpec("scores", values.dtype, values.shape), host=True)
    buffer.array[...] = values
    device.copy_in(buffer, stream)
    return buffer, values[0]


def test_labels_and_confidence_are_those_of_the_cpu(any_device, stream):
    buffer, values = scores_on(any_device, stream)
    labels, confidence = any_device.decode(buffer, (48, 80), stream, confidence=True)
    stream.synchronize()
    sureness = np.empty((48, 80), np.uint8)
    expected = decode_labels(values, (48, 80), confidence=sureness)

    assert isinstance(labels, DeviceArray)
    assert (labels.copy_to_host() == expected).mean() >= 0.9999
    # One of 255: the CPU takes the softmax in another order.
    assert np.abs(confidence.copy_to_host().astype(int) - sureness).max() <= 1


def test_labels_without_confidence(any_device, stream):
    buffer, _ = scores_on(any_device, stream)
    labels, confidence = any_device.decode(buffer, (6, 10), stream, confidence=False)
    stream.synchronize()

    assert labels.shape == (6, 10)
    assert confidence is None


def test_label_maps_use_memory_that_came_back(any_device, stream, emulation):
    buffer, _ = scores_on(any_device, stream)
    kept, _ = any_device.decode(buffer, (6, 10), stream, confidence=False)
    any_device.decode(buffer, (6, 10), stream, confidence=False)
    gc.collect()
    before = {call: emulation.count(call) for call in ALLOCATING}
    pointers = set()
    for _ in range(5):
        labels, _ = any_device.decode(buffer, (6, 10), stream, confidence=False)
        pointers.add(labels.pointer)
        del labels

    assert {call: emulation.count(call) for call in ALLOCATING} == before
    assert len(pointers) == 1
    assert kept.pointer not in pointers
    stream.synchronize()


def test_a_label_map_outlives_the_device(any_device, stream, emulation):
    buffer, values = scores_on(any_device, stream)
    labels, _ = any_device.decode(buffer, (6, 10), stream, confidence=False)
    stream.synchronize()
    stream.close()
    any_device.close()
    assert emulation.live("device") == 1

    np.testing.assert_array_equal(labels.copy_to_host(), decode_labels(values, (6, 10)))
    del labels
    gc.collect()
    assert emulation.live("device") == 0
    with pytest.raises(PipelineError, match="closed"):
        any_device.memory_info()
