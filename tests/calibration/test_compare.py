"""Error of maps of another precision against fp32: the largest and the mean, over a range."""

import numpy as np
import pytest

from dff_edge.calibration.compare import _Errors


@pytest.mark.parametrize(
    ("name", "largest", "expected"),
    [
        ("features", 0.5, 0.3 / 0.5),  # of the largest value
        ("flow", 0.5, 0.3),  # of a cell: hardly anything moves
        ("flow", 3.0, 0.3 / 3),
        ("scale", 0.0, 0.3),  # a map of zeros has no range
    ],
)
def test_error_is_a_share_of_the_range_of_flow_of_a_cell_at_least(name, largest, expected):
    wanted = np.array([[0.0, largest]], np.float32)
    errors = _Errors({})
    errors.add({name: wanted}, {name: wanted - np.float32(0.3) * np.array([[0, 1]], np.float32)})

    ((output, absolute, relative, mean),) = errors.results()

    assert output == name
    assert absolute == pytest.approx(0.3, rel=1e-5)
    assert relative == pytest.approx(expected, rel=1e-5)
    assert mean == pytest.approx(expected / 2, rel=1e-5)
