"""Ranges of inner values against the values themselves."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

from dff_edge.calibration.sampling.ranges import find_ranges
from dff_edge.errors import CalibrationError
from tests.calibration.graphs import model_of


@pytest.fixture
def model():
    """y = 1 / (x + 1), with x + 1 inside."""
    nodes = [
        helper.make_node("Add", ["x", "one"], ["sum"], "sum"),
        helper.make_node("Reciprocal", ["sum"], ["y"], "y"),
    ]
    value = {"x": (np.float32, [2, 3])}
    return model_of(nodes, value, {"y": value["x"]}, {"one": np.ones(1, np.float32)})


def rows(*values):
    return [{"x": np.full((2, 3), value, np.float32)} for value in values]


def test_extremes_over_all_samples(model):
    assert find_ranges(model, ["sum", "y"], rows(3, -5, 1)) == {"sum": (-4, 4), "y": (-0.25, 0.5)}


def test_a_model_is_left_alone_and_samples_are_not_read_where_nothing_is_wanted(model):
    before = model.SerializeToString()
    samples = iter(rows(1, 2))
    assert find_ranges(model, [], samples) == {}
    assert len(list(samples)) == 2
    find_ranges(model, ["sum"], rows(1))
    assert model.SerializeToString() == before


@pytest.mark.parametrize("later", [[], [1.0]])
def test_what_is_not_finite_is_refused(model, later):
    with pytest.raises(CalibrationError, match="expected finite ones"):
        find_ranges(model, ["sum"], rows(np.nan, *later))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", range(6))
def test_one_number_that_is_not_finite_is_found_wherever_it_is(model, place, value):
    sample = np.zeros((2, 3), np.float32)
    sample.flat[place] = value

    with pytest.raises(CalibrationError, match="expected finite ones"):
        find_ranges(model, ["sum"], [{"x": sample}, *rows(1)])
