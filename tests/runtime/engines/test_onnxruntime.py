"""The ONNX Runtime engine: computes in the caller's arrays, and refuses by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dff_edge.bundle.tensors import TensorSpec
from dff_edge.errors import EngineError, MissingDependencyError, ShapeError
from dff_edge.runtime.engines.base import MAX_BINDINGS
from dff_edge.runtime.engines.onnxruntime import OrtEngine, session_options
from tests.bundle.bundles import make_graphs, make_model
from tests.runtime.engines.largest_sums import largest_sums

ATOL = 1e-5  # float32, sums of 8 products of values near 1

ort = pytest.importorskip("onnxruntime")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(2)


@pytest.fixture
def engine() -> Any:
    with OrtEngine(make_graphs()["task"], name="fp32 task", threads=1) as engine:
        yield engine


def features(rng: np.random.Generator) -> NDArray[np.float32]:
    return rng.standard_normal((1, 2, 4, 8)).astype(np.float32)


def scores() -> NDArray[np.float32]:
    return np.full((1, 2, 4, 3), np.nan, np.float32)


def by_hand(array: NDArray[np.float32]) -> NDArray[np.float32]:
    w, b = (np.array(i.raw_data) for i in make_model("task").graph.initializer)
    w, b = (np.frombuffer(x.item(), np.float32) for x in (w, b))
    return np.asarray(array @ w.reshape(8, 3) + b)


def test_inputs_and_outputs_are_told(engine):
    float32 = np.dtype(np.float32)

    assert engine.inputs == {"features": TensorSpec("features", float32, (1, 2, 4, 8))}
    assert engine.outputs == {"scores": TensorSpec("scores", float32, (1, 2, 4, 3))}


def test_the_result_is_written_into_the_given_array(engine, rng):
    given, taken = features(rng), scores()
    engine.run({"features": given}, {"scores": taken})

    np.testing.assert_allclose(taken, by_hand(given), rtol=0, atol=ATOL)


def test_new_contents_of_the_same_arrays_are_seen(engine, rng):
    given, taken = features(rng), scores()
    engine.run({"features": given}, {"scores": taken})
    given[:] = features(rng)
    engine.run({"features": given}, {"scores": taken})

    np.testing.assert_allclose(taken, by_hand(given), rtol=0, atol=ATOL)


def test_alternating_arrays_do_not_mix(engine, rng):
    given, taken = [features(rng) for _ in range(3)], [scores() for _ in range(2)]
    for turn in range(12):
        source, target = given[turn % 3], taken[turn % 2]
        engine.run({"features": source}, {"scores": target})

        np.testing.assert_allclose(target, by_hand(source), rtol=0, atol=ATOL)
    assert len(engine._bindings) == 6


def test_bindings_of_fresh_arrays_do_not_pile_up(engine, rng):
    kept = [features(rng) for _ in range(MAX_BINDINGS + 5)]
    taken = scores()
    for given in kept:
        engine.run({"features": given}, {"scores": taken})

    assert len(engine._bindings) == MAX_BINDINGS


def test_slices_of_a_larger_buffer_are_bound_in_place(engine, rng):
    many = rng.standard_normal((5, 2, 4, 8)).astype(np.float32)
    taken = np.full((5, 2, 4, 3), np.nan, np.float32)
    engine.run({"features": many[3:4]}, {"scores": taken[2:3]})

    np.testing.assert_allclose(taken[2:3], by_hand(many[3:4]), rtol=0, atol=ATOL)
    assert np.isnan(taken[[0, 1, 3, 4]]).all()


@pytest.mark.parametrize("subnet", ["feature", "flow", "propagate"])
def test_each_subnet_agrees_with_a_plain_run_of_onnxruntime(rng, subnet):
    data = make_graphs()[subnet]
    with OrtEngine(data, name=subnet, threads=2) as engine:
        given = {
            name: rng.integers(0, 256, s.shape, np.uint8)
            if s.dtype == np.uint8
            else rng.standard_normal(s.shape).astype(s.dtype)
            for name, s in engine.inputs.items()
        }
        taken = {name: s.empty() for name, s in engine.outputs.items()}
        engine.run(given, taken)

    plain = ort.InferenceSession(data, providers=["CPUExecutionProvider"])
    for name, expected in zip(taken, plain.run(list(taken), given), strict=True):
        np.testing.assert_allclose(taken[name], expected, rtol=0, atol=ATOL)


def test_a_zero_flow_propagates_to_the_scores_of_the_key_frame(engine, rng):
    key, direct, propagated = features(rng), scores(), scores()
    still, one = np.zeros((1, 2, 4, 2), np.float32), np.ones((1, 2, 4, 8), np.float32)
    engine.run({"features": key}, {"scores": direct})
    with OrtEngine(make_graphs()["propagate"], name="propagate") as propagate:
        propagate.run({"features": key, "flow": still, "scale": one}, {"scores": propagated})

    np.testing.assert_allclose(propagated, direct, rtol=0, atol=ATOL)


def test_options_suit_several_sessions_on_shared_cores(engine):
    options = engine._session.get_session_options()

    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert options.get_session_config_entry("session.set_denormal_as_zero") == "1"
    assert options.intra_op_num_threads == 1


@pytest.mark.parametrize("overflows", [True, False])
def test_exact_kernels_are_asked_for_where_the_others_overflow(monkeypatch, overflows):
    monkeypatch.setattr("dff_edge.runtime.engines.onnxruntime.overflows_here", lambda: overflows)
    options = session_options(ort)

    if overflows:
        assert options.get_session_config_entry("session.x64quantprecision") == "1"
    else:
        with pytest.raises(RuntimeError, match="x64quantprecision"):
            options.get_session_config_entry("session.x64quantprecision")


@pytest.mark.parametrize("bits", [7, 8])
@pytest.mark.parametrize("kind", ["dense", "depthwise"])
def test_integer_sums_do_not_overflow_on_this_cpu(kind, bits):
    given, graph, expected = largest_sums(kind, bits)
    with OrtEngine(graph, name="int8") as engine:
        taken = {name: spec.empty() for name, spec in engine.outputs.items()}
        engine.run({"bytes": given}, taken)

    assert set(taken["result"].flat) == {expected}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros((1, 2, 4, 9), np.float32), r"'features' is float32 \(1, 2, 4, 9\), expected"),
        (np.zeros((2, 4, 8), np.float32), r"\(2, 4, 8\), expected float32 \(1, 2, 4, 8\)"),
        (np.zeros((1, 2, 4, 8), np.float64), r"is float64 .* expected float32"),
        (np.zeros((1, 2, 4, 8), ">f4"), r"is >f4 .* expected float32"),
        (np.zeros((1, 2, 4, 16), np.float32)[..., ::2], r"'features' is not C-contiguous"),
    ],
)
def test_an_input_that_does_not_fit_is_refused(engine, given, message):
    with pytest.raises(ShapeError, match=message):
        engine.run({"features": given}, {"scores": scores()})


def test_a_transposed_output_is_refused(engine, rng):
    taken = np.zeros((3, 4, 2, 1), np.float32).T

    with pytest.raises(ShapeError, match="'scores' is not C-contiguous"):
        engine.run({"features": features(rng)}, {"scores": taken})


def test_a_read_only_output_is_refused(engine, rng):
    taken = scores()
    taken.setflags(write=False)

    with pytest.raises(ShapeError, match="output 'scores' is read-only"):
        engine.run({"features": features(rng)}, {"scores": taken})


def test_a_read_only_input_is_taken(engine, rng):
    given, taken = features(rng), scores()
    given.setflags(write=False)
    engine.run({"features": given}, {"scores": taken})

    np.testing.assert_allclose(taken, by_hand(given), rtol=0, atol=ATOL)


def test_missing_and_superfluous_names_are_refused(engine, rng):
    with pytest.raises(ShapeError, match=r"inputs are \['feature'\], expected \['features'\]"):
        engine.run({"feature": features(rng)}, {"scores": scores()})
    with pytest.raises(ShapeError, match=r"outputs are \[\], expected \['scores'\]"):
        engine.run({"features": features(rng)}, {})


def test_a_closed_engine_does_not_run(engine, rng):
    engine.close()
    engine.close()

    with pytest.raises(EngineError, match="fp32 task engine is closed"):
        engine.run({"features": features(rng)}, {"scores": scores()})


def test_a_provider_that_is_not_there_is_refused():
    with pytest.raises(
        EngineError,
        match=r"TensorrtExecutionProvider was requested for the task graph and is not available; "
        r"this onnxruntime has .*CPUExecutionProvider.*pip uninstall -y onnxruntime && "
        r"pip install 'onnxruntime-gpu>=",
    ):
        OrtEngine(make_graphs()["task"], name="task", provider="TensorrtExecutionProvider")


def test_a_provider_that_did_not_take_the_graph_is_refused(monkeypatch):
    real = ort.InferenceSession

    def on_the_cpu_instead(data: bytes, *, sess_options: Any, providers: list[str]) -> Any:
        return real(data, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(ort, "InferenceSession", on_the_cpu_instead)

    with pytest.raises(
        EngineError, match=r"did not accept it; ONNX Runtime chose CPUExecutionProvider"
    ):
        OrtEngine(make_graphs()["task"], name="task", provider="CUDAExecutionProvider")


def test_a_graph_that_does_not_load_is_named():
    with pytest.raises(EngineError, match="could not load the int8 flow graph with CPU"):
        OrtEngine(b"not an onnx file", name="int8 flow")


def test_a_graph_without_static_shape_is_refused():
    model = make_model("task")
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "rows"

    with pytest.raises(EngineError, match="'features' is .* expected a plain tensor of static"):
        OrtEngine(model.SerializeToString(), name="task")


def test_no_threads_are_refused():
    with pytest.raises(EngineError, match="threads is 0 .* expected 1 or more"):
        OrtEngine(make_graphs()["task"], name="task", threads=0)


def test_an_absent_onnxruntime_is_told_with_its_extra(without):
    without("onnxruntime", "cv2")

    with pytest.raises(MissingDependencyError, match=r"pip install 'dff-edge\[cpu\]'"):
        OrtEngine(make_graphs()["task"], name="task")
