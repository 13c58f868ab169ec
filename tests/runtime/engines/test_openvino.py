"""OpenVINO as an engine: the same answers as ONNX Runtime, in the caller's memory."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from dff_edge.bundle.writer import BundleWriter
from dff_edge.errors import ConfigError, EngineError, MissingDependencyError, ShapeError
from dff_edge.runtime.engines.onnxruntime import OrtEngine
from dff_edge.runtime.engines.openvino import OpenVinoEngine
from dff_edge.runtime.pipeline import Pipeline
from tests.bundle.bundles import calibration_fields, make_bundle
from tests.runtime.engines.largest_sums import largest_sums

pytest.importorskip("openvino", reason="openvino is not installed")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("bundle") / "small", (32, 64))


@pytest.fixture(scope="module")
def graph(bundle):
    return bundle.graph_bytes("fp32", "flow")


@pytest.fixture
def inputs():
    rng = np.random.default_rng(5)
    names = ("key_half", "frame_half")
    return {name: rng.integers(0, 256, (1, 16, 32, 3), dtype=np.uint8) for name in names}


def empty_outputs(engine):
    return {name: np.full(spec.shape, 77, spec.dtype) for name, spec in engine.outputs.items()}


def test_same_tensors_and_values_as_onnx_runtime(graph, inputs):
    with (
        OrtEngine(graph, name="flow", threads=1) as reference,
        OpenVinoEngine(graph, name="flow", threads=1) as engine,
    ):
        assert engine.inputs == reference.inputs
        assert engine.outputs == reference.outputs
        expected, found = empty_outputs(reference), empty_outputs(engine)
        reference.run(inputs, expected)
        engine.run(inputs, found)
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=0, atol=1e-4 * np.abs(array).max())


def test_an_output_that_is_cast_keeps_its_name():
    # OpenVINO joins a cast with what it casts, whose name comes first in the alphabet.
    half = helper.make_tensor_value_info("x", TensorProto.FLOAT16, [1, 4])
    full = helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 4])
    nodes = [
        helper.make_node("Add", ["x", "x"], ["inner_cast_0"]),
        helper.make_node("Cast", ["inner_cast_0"], ["scores"], to=TensorProto.FLOAT),
    ]
    graph = helper.make_graph(nodes, "cast", [half], [full])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    outputs = {"scores": np.empty((1, 4), np.float32)}
    with OpenVinoEngine(model.SerializeToString(), name="cast", threads=1) as engine:
        engine.run({"x": np.float16([[1, 2, 3, 4]])}, outputs)
    assert outputs["scores"].tolist() == [[2, 4, 6, 8]]


def test_each_run_writes_the_arrays_that_it_is_given(graph, inputs):
    other = {name: 255 - array for name, array in inputs.items()}
    with OpenVinoEngine(graph, name="flow", threads=1) as engine:
        first, second, again = (empty_outputs(engine) for _ in range(3))
        engine.run(inputs, first)
        engine.run(other, second)
        engine.run(inputs, again)
    for name in first:
        assert not np.array_equal(first[name], second[name])
        np.testing.assert_array_equal(first[name], again[name])


def test_wrong_arrays_are_refused(graph, inputs):
    with OpenVinoEngine(graph, name="int8 flow", threads=1) as engine:
        with pytest.raises(ShapeError, match="int8 flow: inputs are .*expected"):
            engine.run({}, empty_outputs(engine))
        wrong = {**inputs, "key_half": inputs["key_half"][:, ::2]}
        with pytest.raises(ShapeError, match="'key_half' is uint8"):
            engine.run(wrong, empty_outputs(engine))
        fixed = empty_outputs(engine)
        fixed["flow"].flags.writeable = False
        with pytest.raises(ShapeError, match="'flow' is read-only"):
            engine.run(inputs, fixed)


def test_a_closed_engine_says_so(graph, inputs):
    engine = OpenVinoEngine(graph, name="flow")
    outputs = empty_outputs(engine)
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="flow engine is closed"):
        engine.run(inputs, outputs)


@pytest.mark.parametrize("data", [b"", b"no graph at all", b"\x08\x07" * 40])
def test_what_is_no_graph_is_refused(data):
    with pytest.raises(EngineError, match="could not load the flow graph"):
        OpenVinoEngine(data, name="flow")


def test_threads_are_checked(graph):
    with pytest.raises(EngineError, match="threads is 0 for the flow graph"):
        OpenVinoEngine(graph, name="flow", threads=0)


def test_unknown_engine_is_refused(bundle):
    with pytest.raises(ConfigError, match="engine is 'tvm', expected one of onnxruntime, openvino"):
        Pipeline.open(bundle, engine="tvm")


def test_a_missing_package_is_named(graph, without):
    without("openvino", "cv2")
    with pytest.raises(MissingDependencyError, match=r"pip install 'dff-edge\[openvino\]'"):
        OpenVinoEngine(graph, name="flow")


def test_pipelines_agree(bundle):
    rng = np.random.default_rng(6)
    images = rng.integers(0, 256, (7, 40, 80, 3), dtype=np.uint8)
    labels = {}
    for engine in ("onnxruntime", "openvino"):
        with Pipeline.open(bundle, policy="fixed:3", threads=1, engine=engine) as pipeline:
            found = []
            for image in images:
                if pipeline.is_full:
                    found.append(pipeline.poll(block=True))
                pipeline.submit(image)
            while (result := pipeline.poll(block=True)) is not None:
                found.append(result)
        labels[engine] = np.stack([result.labels for result in found])
    same = labels["onnxruntime"] == labels["openvino"]
    assert same.mean() > 0.999
    assert len(np.unique(labels["openvino"])) > 1


@pytest.mark.parametrize(("kind", "bits"), [("dense", 7), ("depthwise", 7), ("depthwise", 8)])
def test_integer_sums_do_not_overflow_on_this_cpu(kind, bits):
    given, graph, expected = largest_sums(kind, bits)
    with OpenVinoEngine(graph, name="int8") as engine:
        taken = empty_outputs(engine)
        engine.run({"bytes": given}, taken)

    assert set(taken["result"].flat) == {expected}


@pytest.mark.parametrize(
    ("overflows", "bits", "warnings"), [(True, 8, 1), (True, 7, 0), (False, 8, 0)]
)
def test_sums_that_overflow_on_this_cpu_are_told_once(
    tmp_path, monkeypatch, caplog, overflows, bits, warnings
):
    bundle = make_bundle(tmp_path / "int8", precisions=("fp32", "int8"))
    with BundleWriter.extend(bundle) as writer:
        record = {**calibration_fields(), "weight_bits": bits}
        writer.update(calibration={"ort": {"int8": record}})
        writer.commit()
    monkeypatch.setattr("dff_edge.runtime.engines.openvino.overflows_here", lambda: overflows)
    monkeypatch.setattr("dff_edge.runtime.engines.openvino._WARNED", set())
    for _ in range(2):
        Pipeline.open(bundle.path, precision="int8", engine="openvino").close()

    assert caplog.text.count("--weight-bits 7") == warnings
