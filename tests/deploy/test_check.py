"""Comparisons of a deployment: errors by hand, levels of bytes, frames."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dff_edge.bundle.levels import INT8, Levels, MapLevels
from dff_edge.bundle.tensors import TensorSpec
from dff_edge.deploy.check import (
    FRAMES,
    KEY_EVERY,
    Reference,
    compute_reference,
    draw_frames,
    relative_errors,
)
from dff_edge.errors import EngineError, SourceError
from dff_edge.evaluation.bundle_predictor import BundlePredictor
from tests.bundle.bundles import make_bundle
from tests.deploy.conftest import SOURCE


class Stub:
    """An engine that does as it is told."""

    def __init__(self, inputs: dict[str, Any], outputs: dict[str, Any], compute: Any) -> None:
        self.name = "stub"
        self.inputs = {n: TensorSpec(n, np.dtype(d), s) for n, (d, s) in inputs.items()}
        self.outputs = {n: TensorSpec(n, np.dtype(d), s) for n, (d, s) in outputs.items()}
        self.given: list[dict[str, Any]] = []
        self._compute = compute

    def run(self, inputs: Any, outputs: Any) -> None:
        self.given.append({name: array.copy() for name, array in inputs.items()})
        for name, value in self._compute(inputs).items():
            outputs[name][...] = value


def reference(graph: str, given: list[Any], expected: list[Any]) -> Reference:
    def named(arrays: list[Any], name: str) -> list[dict[str, Any]]:
        return [{name: np.asarray(a, np.float32)} for a in arrays]

    return Reference((), {graph: named(given, "x")}, {graph: named(expected, "y")}, ())


def test_the_relative_error_is_that_of_the_norms_over_all_runs():
    engine = Stub({"x": (np.float32, (2,))}, {"y": (np.float32, (2,))}, lambda i: {"y": i["x"]})
    wanted = reference("task", [[3, 0], [0, 4]], [[0, 0], [0, 10]])

    # |(3, 0, 0, -6)| / |(0, 0, 0, 10)|
    assert relative_errors(engine, "task", wanted, None) == {"y": pytest.approx(45**0.5 / 10)}


def test_an_exact_engine_has_no_error():
    engine = Stub({"x": (np.float32, (2,))}, {"y": (np.float32, (2,))}, lambda i: {"y": i["x"]})

    assert relative_errors(engine, "flow", reference("flow", [[1, 2]], [[1, 2]]), None) == {"y": 0}


@pytest.mark.parametrize(("got", "error"), [(0.0, 0.0), (0.1, 1.0)])
def test_where_nothing_is_expected_any_value_is_all_wrong(got, error):
    engine = Stub({"x": (np.float32, (2,))}, {"y": (np.float32, (2,))}, lambda i: {"y": got})

    assert relative_errors(engine, "flow", reference("flow", [[1, 2]], [[0, 0]]), None) == {
        "y": error
    }


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_an_error(value):
    engine = Stub({"x": (np.float32, (2,))}, {"y": (np.float16, (2,))}, lambda i: {"y": value})

    with pytest.raises(EngineError, match="stub engine has values that are not finite for 'y'"):
        relative_errors(engine, "task", reference("task", [[1, 2]], [[1, 2]]), None)


@pytest.mark.parametrize("graph", ["propagate", "propagate_portable"])
@pytest.mark.parametrize(
    ("dtype", "levels", "expected"),
    [
        # Steps of 0.5 around zero: 0.6 is nearest to one step, 100 and -100 are out of range.
        (np.int8, Levels(0.5, 0, INT8), [1, 127, -128]),
        (np.uint8, Levels(0.5, 10), [11, 210, 0]),
    ],
    ids=["int8", "uint8"],
)
def test_maps_are_given_and_read_as_their_levels_say(graph, dtype, levels, expected):
    engine = Stub(
        {"features": (dtype, (3,)), "flow": (np.float32, (1,))},
        {"features": (dtype, (3,))},
        lambda inputs: {"features": inputs["features"]},
    )
    values = np.float32([0.6, 100, -100])
    given = {"features": values, "flow": np.float32([7]), "scale": np.float32([1])}
    wanted = Reference((), {"propagate": [given]}, {"propagate": [{"features": values}]}, ())

    (error,) = relative_errors(engine, graph, wanted, MapLevels(levels, Levels(1.0, 0))).values()

    assert engine.given[0]["features"].tolist() == expected
    assert engine.given[0]["flow"].tolist() == [7]
    read = (np.float64(expected) - levels.zero) * levels.step
    assert error == pytest.approx(np.linalg.norm(read - values) / np.linalg.norm(values))


def test_the_reference_is_what_the_predictor_answers(tmp_path):
    bundle = make_bundle(tmp_path / "bundle", (64, 96))
    frames = draw_frames(SOURCE)
    reference = compute_reference(bundle, frames)

    with BundlePredictor(bundle, threads=1) as predictor:
        for frame, labels in zip(frames, reference.answers, strict=True):
            if frame.index % KEY_EVERY == 0:
                key = predictor.extract(frame.image)
                expected = predictor.predict(key, None)
            else:
                expected = predictor.predict(key, frame.image)
            assert (labels == expected).mean() > 0.999  # another form of the warp
    keys = FRAMES // KEY_EVERY
    assert {graph: len(runs) for graph, runs in reference.outputs.items()} == {
        "feature": keys,
        "task": keys,
        "flow": FRAMES - keys,
        "propagate": FRAMES - keys,
    }


def test_frames_are_the_first_of_the_source_numbered_anew():
    frames = draw_frames(SOURCE)

    assert [frame.index for frame in frames] == list(range(FRAMES))
    assert {frame.image.shape for frame in frames} == {(64, 96, 3)}


def test_a_source_that_ends_early_is_enough_with_two_frames():
    assert len(draw_frames(f"{SOURCE}&frames=2")) == 2
    with pytest.raises(SourceError, match="gave 1 frames, expected 12 to check with"):
        draw_frames(f"{SOURCE}&frames=1")
