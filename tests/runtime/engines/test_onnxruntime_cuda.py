"""The engine of ONNX Runtime's CUDA provider, on a stand-in for it and the emulated driver."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from dff_edge.bundle.tensors import TensorSpec
from dff_edge.errors import EngineError, MissingDependencyError, PipelineError, ShapeError
from dff_edge.runtime.engines.base import MAX_BINDINGS
from dff_edge.runtime.engines.onnxruntime import OrtEngine
from dff_edge.runtime.engines.onnxruntime_cuda import OrtCudaEngine
from tests.bundle.bundles import make_graphs, make_model
from tests.runtime.devices.cuda.emulation import ALLOCATING, BLOCKING, has_gpu
from tests.runtime.engines.fake_ort import play_cuda_provider

ATOL = 1e-5  # float32, sums of 8 products of values near 1


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(11)


@pytest.fixture
def provider(emulation, monkeypatch):
    """The stand-in, which needs device memory that the CPU can read: the emulated driver's."""
    return play_cuda_provider(monkeypatch)


@pytest.fixture
def engine(provider, device):
    with OrtCudaEngine(make_graphs()["task"], name="fp32 task", device=device) as engine:
        yield engine


def features(rng: np.random.Generator) -> NDArray[np.float32]:
    return rng.standard_normal((1, 2, 4, 8)).astype(np.float32)


def by_hand(array: NDArray[np.float32]) -> NDArray[np.float32]:
    w, b = (np.frombuffer(i.raw_data, np.float32) for i in make_model("task").graph.initializer)
    return np.asarray(array @ w.reshape(8, 3) + b)


def buffers_of(device: Any, engine: OrtCudaEngine) -> tuple[dict[str, Any], dict[str, Any]]:
    return (
        {n: device.buffer(s, host=True) for n, s in engine.inputs.items()},
        {n: device.buffer(s, host=True) for n, s in engine.outputs.items()},
    )


def test_the_provider_is_told_the_device_and_the_sessions_own_stream(engine, provider, device):
    (options,) = provider

    assert options["device_id"] == "0"
    assert options["user_compute_stream"] == str(engine._stream.handle) != "0"
    assert options["use_tf32"] == "0"


@pytest.mark.parametrize("subnet", ["feature", "flow", "task", "propagate"])
def test_arrays_of_the_host_are_computed_as_on_the_cpu(provider, device, rng, subnet):
    data = make_graphs()[subnet]
    with OrtEngine(data, name=subnet, threads=1) as plain:
        given = {
            name: rng.integers(0, 256, s.shape, np.uint8)
            if s.dtype == np.uint8
            else rng.standard_normal(s.shape).astype(s.dtype)
            for name, s in plain.inputs.items()
        }
        expected = {name: s.empty() for name, s in plain.outputs.items()}
        plain.run(given, expected)
    with OrtCudaEngine(data, name=subnet, device=device) as engine:
        taken = {name: s.empty() for name, s in engine.outputs.items()}
        engine.run(given, taken)

    for name in expected:
        np.testing.assert_array_equal(taken[name], expected[name])


def test_halves_are_bound(provider, device, rng):
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT16, (3, 5)) for n in ("a", "b")]
    node = helper.make_node("Neg", ["a"], ["b"])
    graph = helper.make_graph([node], "negate", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    given = rng.standard_normal((3, 5)).astype(np.float16)
    taken = np.empty((3, 5), np.float16)
    with OrtCudaEngine(model.SerializeToString(), name="half", device=device) as engine:
        engine.run({"a": given}, {"b": taken})

    np.testing.assert_array_equal(taken, -given)


@pytest.mark.parametrize("seed", range(3))
def test_the_graph_runs_between_what_was_enqueued_before_and_after(
    engine, device, emulation, rng, seed
):
    emulation.jitter(seed=seed, max_us=3000)
    stream = device.stream("task")
    inputs, outputs = buffers_of(device, engine)
    kept = []
    for _ in range(4):  # the same buffers: each run must see its own input, and no later one
        array = features(rng)
        inputs["features"].array[...] = array
        device.copy_in(inputs["features"], stream)
        engine.enqueue(inputs, outputs, stream)
        device.copy_out(outputs["scores"], stream)
        stream.synchronize()
        kept.append((array, outputs["scores"].array.copy()))
    stream.close()

    for array, scores in kept:
        np.testing.assert_allclose(scores, by_hand(array), rtol=0, atol=ATOL)


def test_another_stream_that_waits_for_the_caller_sees_the_result(engine, device, emulation, rng):
    emulation.jitter(seed=5, max_us=3000)
    first, second = device.stream("first"), device.stream("second")
    inputs, outputs = buffers_of(device, engine)
    array, done = features(rng), first.event()
    inputs["features"].array[...] = array
    device.copy_in(inputs["features"], first)
    engine.enqueue(inputs, outputs, first)
    first.record(done)
    second.wait(done)
    device.copy_out(outputs["scores"], second)
    second.synchronize()

    np.testing.assert_allclose(outputs["scores"].array, by_hand(array), rtol=0, atol=ATOL)
    first.close()
    second.close()


def test_the_steady_state_allocates_nothing_and_waits_for_nothing(engine, device, emulation):
    stream = device.stream("task")
    inputs, outputs = buffers_of(device, engine)
    engine.enqueue(inputs, outputs, stream)
    stream.synchronize()
    calls = (*ALLOCATING, *BLOCKING)
    before = {call: emulation.count(call) for call in calls}
    for _ in range(5):
        engine.enqueue(inputs, outputs, stream)

    assert {call: emulation.count(call) for call in calls} == before
    stream.synchronize()
    assert emulation.count("cuStreamSynchronize") > before["cuStreamSynchronize"]
    stream.close()


def test_bindings_are_kept_by_address_and_bounded(engine, device):
    stream = device.stream("task")
    inputs, outputs = buffers_of(device, engine)
    for _ in range(3):
        engine.enqueue(inputs, outputs, stream)
    assert len(engine._bindings) == 1
    many = [device.buffer(engine.inputs["features"]) for _ in range(MAX_BINDINGS + 3)]
    for buffer in many:
        engine.enqueue({"features": buffer}, outputs, stream)

    assert len(engine._bindings) == MAX_BINDINGS
    stream.close()


def test_a_buffer_that_does_not_fit_is_refused(engine, device):
    stream = device.stream("task")
    _, outputs = buffers_of(device, engine)
    wrong = device.buffer(TensorSpec("features", np.dtype(np.float16), (1, 2, 4, 8)))

    with pytest.raises(ShapeError, match=r"'features' is float16 .* expected float32"):
        engine.enqueue({"features": wrong}, outputs, stream)
    stream.close()


def test_a_failing_run_is_an_error_with_its_reason(engine, device):
    stream = device.stream("task")
    engine._session.failure = RuntimeError("CUBLAS_STATUS_ALLOC_FAILED\nand a stack")

    with pytest.raises(EngineError, match="fp32 task graph failed: CUBLAS_STATUS_ALLOC_FAILED$"):
        engine.enqueue(*buffers_of(device, engine), stream)
    stream.close()


def test_a_closed_engine_does_not_run(engine, device, rng):
    stream = device.stream("task")
    engine.run({"features": features(rng)}, {"scores": np.empty((1, 2, 4, 3), np.float32)})
    inputs, outputs = buffers_of(device, engine)
    engine.close()
    engine.close()

    with pytest.raises(EngineError, match="fp32 task engine is closed"):
        engine.enqueue(inputs, outputs, stream)
    stream.close()


def test_an_engine_whose_stream_failed_is_closed_all_the_same(provider, device, monkeypatch):
    engine = OrtCudaEngine(make_graphs()["task"], name="task", device=device)

    def fail() -> None:
        raise PipelineError("CUDA_ERROR_ILLEGAL_ADDRESS")

    monkeypatch.setattr(engine._stream, "synchronize", fail)
    engine.close()

    assert engine._session is None


@pytest.mark.parametrize("operator", ["QuantizeLinear", "DequantizeLinear"])
def test_a_quantised_graph_is_refused_with_what_to_do(provider, device, operator):
    data = make_graphs()["task"] + operator.encode()

    with pytest.raises(
        EngineError,
        match=r"int8 task graph is quantised.*no integer convolution.*fp16.*--target tensorrt",
    ):
        OrtCudaEngine(data, name="int8 task", device=device)
    assert provider == []


def test_a_provider_that_is_not_there_is_refused(device):
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has the CUDA provider")

    with pytest.raises(
        EngineError,
        match=r"CUDAExecutionProvider was requested for the task graph and is not available.*"
        r"pip uninstall -y onnxruntime && pip install 'onnxruntime-gpu>=",
    ):
        OrtCudaEngine(make_graphs()["task"], name="task", device=device)


def test_an_absent_onnxruntime_is_told_with_its_extra(device, without):
    without("onnxruntime", "cv2")

    with pytest.raises(MissingDependencyError, match=r"pip install 'dff-edge\[cuda\]'"):
        OrtCudaEngine(make_graphs()["task"], name="task", device=device)


@pytest.mark.gpu
def test_the_real_provider_computes_as_the_cpu_does(device, rng):
    if not has_gpu():
        pytest.skip("there is no GPU")
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has no CUDA provider: pip install onnxruntime-gpu")
    given, taken = features(rng), np.empty((1, 2, 4, 3), np.float32)
    with OrtCudaEngine(make_graphs()["task"], name="task", device=device) as engine:
        for _ in range(3):
            engine.run({"features": given}, {"scores": taken})

            np.testing.assert_allclose(taken, by_hand(given), rtol=0, atol=ATOL)
