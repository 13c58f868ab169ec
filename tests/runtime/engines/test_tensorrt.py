"""The TensorRT engine on a stand-in for TensorRT, in the versions that must both work."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper

from dff_edge.bundle.contract import graph_contract
from dff_edge.bundle.tensors import TensorSpec
from dff_edge.deploy.tensorrt import build_plan
from dff_edge.errors import EngineError, MissingDependencyError, ShapeError
from dff_edge.runtime.engines.onnxruntime import OrtEngine
from dff_edge.runtime.engines.tensorrt import TensorRtEngine
from dff_edge.runtime.engines.tensorrt_library import load_plugin
from dff_edge.runtime.kernels.warp import warp_features
from tests.bundle.bundles import make_model
from tests.runtime.devices.cuda.emulation import has_gpu
from tests.runtime.engines.fake_tensorrt import VERSIONS, fake_tensorrt

ATOL = 1e-5  # float32, sums of 8 products of values near 1


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture(params=VERSIONS)
def trt(request, monkeypatch, emulation) -> ModuleType:
    """The stand-in, which needs device memory that the CPU can read: the emulated driver's."""
    module = fake_tensorrt(request.param)
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    return module


@pytest.fixture
def plugin(trt, tmp_path, monkeypatch):
    """A file in the place of the plugin library."""
    path = tmp_path / "libdff_tensorrt.so"
    path.write_bytes(b"plugin")
    monkeypatch.setenv("DFF_TENSORRT_PLUGIN", str(path))
    return path


def plan(trt: ModuleType, model: onnx.ModelProto) -> bytes:
    """A model as an engine, built without dff_edge."""

    class Silent(trt.ILogger):
        def log(self, severity: Any, message: str) -> None:
            raise AssertionError(message)

    builder = trt.Builder(Silent())
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, Silent())
    assert parser.parse(model.SerializeToString())
    for tensor in [*network.inputs, *network.outputs]:
        tensor.allowed_formats = 1 << int(trt.TensorFormat.LINEAR)
    return bytes(builder.build_serialized_network(network, builder.create_builder_config()))


def plugin_model(dtype: str = "float32", scale_step: float = 1.0) -> onnx.ModelProto:
    """The warp's plugin alone: features, flow, scale -> warped, of ``(1, 3, 5, 4)`` maps."""
    wide = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    node = helper.make_node(
        "DffWarp",
        ["features", "flow", "scale"],
        ["warped"],
        "warp",
        domain="dff",
        channels_last=1,
        plugin_version="1",
        plugin_namespace="",
        scale_step=scale_step,
    )
    maps = {
        name: helper.make_tensor_value_info(name, wide, (1, 3, 5, 4))
        for name in ("features", "scale", "warped")
    }
    flow = helper.make_tensor_value_info("flow", onnx.TensorProto.FLOAT, (1, 3, 5, 2))
    graph = helper.make_graph(
        [node], "warp", [maps["features"], flow, maps["scale"]], [maps["warped"]]
    )
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("dff", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


@pytest.fixture
def engine(trt, device):
    with TensorRtEngine(plan(trt, make_model("task")), name="fp32 task", device=device) as engine:
        yield engine


def features(rng: np.random.Generator) -> NDArray[np.float32]:
    return rng.standard_normal((1, 2, 4, 8)).astype(np.float32)


def by_hand(array: NDArray[np.float32]) -> NDArray[np.float32]:
    w, b = (np.frombuffer(i.raw_data, np.float32) for i in make_model("task").graph.initializer)
    return np.asarray(array @ w.reshape(8, 3) + b)


class Buffers:
    """Memory of a run, and the copies around it."""

    def __init__(self, device: Any, engine: TensorRtEngine) -> None:
        self.device, self.engine = device, engine
        self.inputs = {n: device.buffer(s, host=True) for n, s in engine.inputs.items()}
        self.outputs = {n: device.buffer(s, host=True) for n, s in engine.outputs.items()}

    def enqueue(self, stream: Any, given: NDArray[Any]) -> None:
        self.inputs["features"].array[...] = given
        self.device.copy_in(self.inputs["features"], stream)
        self.engine.enqueue(self.inputs, self.outputs, stream)
        self.device.copy_out(self.outputs["scores"], stream)

    @property
    def scores(self) -> NDArray[Any]:
        return self.outputs["scores"].array


def test_inputs_and_outputs_are_told(engine):
    float32 = np.dtype(np.float32)

    assert engine.inputs == {"features": TensorSpec("features", float32, (1, 2, 4, 8))}
    assert engine.outputs == {"scores": TensorSpec("scores", float32, (1, 2, 4, 3))}


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "uint8"])
def test_dtypes_of_all_precisions_are_told(trt, device, dtype):
    onnx_dtype = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    values = [helper.make_tensor_value_info(n, onnx_dtype, (2, 3)) for n in ("a", "b")]
    graph = helper.make_graph(
        [helper.make_node("Identity", ["a"], ["b"])], "g", values[:1], values[1:]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)

    with TensorRtEngine(plan(trt, model), name="copy", device=device) as engine:
        assert engine.inputs["a"].dtype == np.dtype(dtype)
        assert engine.outputs["b"].dtype == np.dtype(dtype)


@pytest.mark.parametrize("subnet", ["feature", "flow", "task"])
def test_arrays_of_the_host_are_computed_as_by_onnx_runtime(trt, device, rng, subnet):
    model = make_model(subnet)
    with OrtEngine(model.SerializeToString(), name=subnet, threads=1) as plain:
        given = {
            name: rng.integers(0, 256, s.shape, np.uint8)
            if s.dtype == np.uint8
            else rng.standard_normal(s.shape).astype(s.dtype)
            for name, s in plain.inputs.items()
        }
        expected = {name: s.empty() for name, s in plain.outputs.items()}
        plain.run(given, expected)
    with TensorRtEngine(plan(trt, model), name=subnet, device=device) as engine:
        for _ in range(2):  # the second time in memory that is there
            taken = {name: s.empty() for name, s in engine.outputs.items()}
            engine.run(given, taken)

            for name in expected:
                np.testing.assert_allclose(taken[name], expected[name], rtol=0, atol=ATOL)


def test_runs_are_in_order_with_the_stream(engine, device, emulation, rng):
    emulation.jitter(seed=3, max_us=2000)
    sets = [Buffers(device, engine) for _ in range(3)]
    given = [features(rng) for _ in range(6)]
    stream = device.stream("task")
    for begin in (0, 3):
        for buffers, array in zip(sets, given[begin:], strict=False):
            buffers.enqueue(stream, array)
        stream.synchronize()
        for buffers, array in zip(sets, given[begin:], strict=False):
            np.testing.assert_allclose(buffers.scores, by_hand(array), rtol=0, atol=ATOL)
    stream.close()


def test_another_stream_waits_by_an_event(engine, device, emulation, rng):
    emulation.jitter(seed=4, max_us=2000)
    buffers, array = Buffers(device, engine), features(rng)
    first, second = device.stream("first"), device.stream("second")
    done = first.event()
    buffers.inputs["features"].array[...] = array
    device.copy_in(buffers.inputs["features"], first)
    first.record(done)
    second.wait(done)
    engine.enqueue(buffers.inputs, buffers.outputs, second)
    device.copy_out(buffers.outputs["scores"], second)
    second.synchronize()

    np.testing.assert_allclose(buffers.scores, by_hand(array), rtol=0, atol=ATOL)
    first.close()
    second.close()


def test_the_steady_state_allocates_nothing_and_waits_for_nothing(engine, device, emulation, rng):
    buffers, stream = Buffers(device, engine), device.stream("task")
    buffers.enqueue(stream, features(rng))
    stream.synchronize()
    calls = ("cuMemAlloc", "cuMemHostAlloc", "cuStreamSynchronize", "cuEventSynchronize")
    before = [emulation.count(call) for call in calls]
    for _ in range(5):
        engine.enqueue(buffers.inputs, buffers.outputs, stream)

    assert [emulation.count(call) for call in calls] == before
    stream.synchronize()
    assert emulation.count("cuStreamSynchronize") == before[2] + 1  # the counter counts
    stream.close()


def test_addresses_are_told_only_when_they_change(engine, device, rng):
    one, other, stream = Buffers(device, engine), Buffers(device, engine), device.stream("task")
    for buffers, calls in ((one, 2), (one, 2), (other, 4), (other, 4), (one, 6)):
        array = features(rng)
        buffers.enqueue(stream, array)
        stream.synchronize()

        assert engine._context.address_calls == calls
        np.testing.assert_allclose(buffers.scores, by_hand(array), rtol=0, atol=ATOL)
    stream.close()


def test_an_engine_of_another_version_is_refused_with_the_reason(trt, device, monkeypatch):
    other = fake_tensorrt(next(v for v in VERSIONS if VERSIONS[v] != trt.__version__))
    data = plan(other, make_model("task"))

    with pytest.raises(
        EngineError,
        match=rf"TensorRT {trt.__version__} on .* could not load the int8 task engine: The engine "
        "plan file is not compatible.*dff-edge deploy BUNDLE --target tensorrt --rebuild",
    ):
        TensorRtEngine(data, name="int8 task", device=device)


def test_bytes_that_are_no_engine_are_refused(trt, device):
    with pytest.raises(EngineError, match="could not load the task engine"):
        TensorRtEngine(b"", name="task", device=device)


def test_an_engine_of_dynamic_shape_is_refused(trt, device):
    model = make_model("task")
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "rows"

    with pytest.raises(EngineError, match=r"'features' is .*FLOAT \(1, -1, 4, 8\), expected"):
        TensorRtEngine(plan(trt, model), name="task", device=device)


def test_an_engine_of_vectorised_formats_is_refused(trt, device):
    model = make_model("task")
    model.metadata_props.add(key="format of features", value="HWC8")

    with pytest.raises(EngineError, match="'features' has the format HWC8.*expected LINEAR"):
        TensorRtEngine(plan(trt, model), name="task", device=device)


@pytest.mark.parametrize(
    ("dtype", "shape", "message"),
    [
        (np.float32, (1, 2, 4, 9), r"'features' is float32 \(1, 2, 4, 9\), expected float32"),
        (np.float16, (1, 2, 4, 8), r"'features' is float16 .* expected float32 \(1, 2, 4, 8\)"),
    ],
)
def test_a_buffer_that_does_not_fit_is_refused(engine, device, dtype, shape, message):
    buffers, stream = Buffers(device, engine), device.stream("task")
    wrong = device.buffer(TensorSpec("features", np.dtype(dtype), shape))

    with pytest.raises(ShapeError, match=message):
        engine.enqueue({"features": wrong}, buffers.outputs, stream)
    stream.close()


def test_a_buffer_of_another_name_is_taken(engine, device, rng):
    buffers, stream, array = Buffers(device, engine), device.stream("task"), features(rng)
    spec = TensorSpec("propagated", np.dtype(np.float32), (1, 2, 4, 8))
    buffers.inputs["features"] = device.buffer(spec, host=True)
    buffers.enqueue(stream, array)
    stream.synchronize()

    np.testing.assert_allclose(buffers.scores, by_hand(array), rtol=0, atol=ATOL)
    stream.close()


def test_missing_buffers_are_refused(engine, device):
    buffers, stream = Buffers(device, engine), device.stream("task")

    with pytest.raises(ShapeError, match=r"inputs are \[\], expected \['features'\]"):
        engine.enqueue({}, buffers.outputs, stream)
    with pytest.raises(ShapeError, match=r"outputs are \['x'\], expected \['scores'\]"):
        engine.enqueue(buffers.inputs, {"x": buffers.outputs["scores"]}, stream)
    stream.close()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("execute_async_v3", "could not run the fp32 task engine: it gave no reason"),
        ("set_tensor_address", "refused the address of 'features' of the fp32 task engine"),
    ],
)
def test_a_refusal_of_tensorrt_is_an_error(engine, device, monkeypatch, call, message):
    buffers, stream = Buffers(device, engine), device.stream("task")
    monkeypatch.setattr(engine._context, call, lambda *arguments: False)

    with pytest.raises(EngineError, match=message):
        engine.enqueue(buffers.inputs, buffers.outputs, stream)
    stream.close()


def test_a_closed_engine_does_not_run(engine, device, rng):
    buffers, stream = Buffers(device, engine), device.stream("task")
    engine.run({"features": features(rng)}, {"scores": np.empty((1, 2, 4, 3), np.float32)})
    engine.close()
    engine.close()

    with pytest.raises(EngineError, match="fp32 task engine is closed"):
        engine.enqueue(buffers.inputs, buffers.outputs, stream)
    with pytest.raises(EngineError, match="fp32 task engine is closed"):
        engine.run({}, {})
    stream.close()


def test_what_is_closed_is_freed(trt, device, emulation, rng):
    streams, memory = emulation.live("stream"), emulation.live("device")
    with TensorRtEngine(plan(trt, make_model("task")), name="task", device=device) as engine:
        engine.run({"features": features(rng)}, {"scores": np.empty((1, 2, 4, 3), np.float32)})
        assert emulation.live("device") > memory
    device.buffer(TensorSpec("x", np.dtype(np.uint8), (1,)))  # frees what was dropped, and itself

    assert emulation.live("stream") == streams
    assert emulation.live("device") <= memory + 1


def test_an_absent_tensorrt_is_told_with_its_extra(device, without):
    without("tensorrt", "cv2")

    with pytest.raises(MissingDependencyError, match=r"pip install 'dff-edge\[tensorrt\]'"):
        TensorRtEngine(b"", name="task", device=device)


def test_an_engine_with_the_plugin_warps_as_the_cpu_does(trt, plugin, device, rng):
    load_plugin(trt)
    data = plan(trt, plugin_model())
    maps = [rng.standard_normal((1, 3, 5, 4)).astype(np.float32) for _ in range(2)]
    flow = rng.uniform(-3, 3, (1, 3, 5, 2)).astype(np.float32)
    flow[0, 1, 1] = np.nan
    warped = np.empty((1, 3, 5, 4), np.float32)
    with TensorRtEngine(data, name="propagate", device=device, plugin=True) as engine:
        engine.run({"features": maps[0], "flow": flow, "scale": maps[1]}, {"warped": warped})

    np.testing.assert_allclose(warped, warp_features(maps[0], flow, maps[1]), rtol=0, atol=ATOL)


def test_an_engine_with_the_plugin_needs_it(trt, plugin, device):
    load_plugin(trt)
    data = plan(trt, plugin_model())
    trt.get_plugin_registry()._creators.clear()  # as in a new process

    with pytest.raises(EngineError, match="could not find DffWarp"):
        TensorRtEngine(data, name="propagate", device=device)


@pytest.mark.gpu
def test_the_real_tensorrt_computes_as_onnx_runtime_does(device, rng):
    """Everything above is about a stand-in; this is about TensorRT."""
    if not has_gpu():
        pytest.skip("there is no GPU")
    real = pytest.importorskip("tensorrt", reason="tensorrt is not installed")
    given, taken = features(rng), np.empty((1, 2, 4, 3), np.float32)
    data, _ = build_plan(
        real,
        make_model("task").SerializeToString(),
        name="task",
        kind="task",
        contract=graph_contract("task", frame_size=(32, 64), channels=8, classes=3),
    )
    with TensorRtEngine(data, name="task", device=device) as engine:
        for _ in range(3):
            engine.run({"features": given}, {"scores": taken})

            np.testing.assert_allclose(taken, by_hand(given), rtol=0, atol=ATOL)
