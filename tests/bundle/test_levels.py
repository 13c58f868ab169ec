"""Levels: bytes of either type and their values."""

from __future__ import annotations

import numpy as np
import pytest

from dff_edge.bundle.levels import INT8, UINT8, Levels, MapLevels


@pytest.mark.parametrize(("dtype", "zero"), [(UINT8, 0), (UINT8, 10), (UINT8, 255), (INT8, 0)])
def test_quantize_gives_back_every_byte(dtype, zero):
    levels = Levels(0.5, zero, dtype)
    every = np.arange(256, dtype=np.uint8).view(dtype)

    again = levels.quantize(levels.dequantize(every))

    assert again.dtype == dtype
    np.testing.assert_array_equal(again, every)


def test_values_of_bytes_by_hand():
    assert Levels(0.5, 10).dequantize(np.uint8([0, 10, 255])).tolist() == [-5.0, 0.0, 122.5]
    assert Levels(0.5, 0, INT8).dequantize(np.int8([-128, 0, 127])).tolist() == [-64.0, 0.0, 63.5]


def test_ties_go_to_the_even_byte_and_values_out_of_range_to_its_end():
    assert Levels(0.5, 10).quantize(np.float32([-1e9, 1e9, 0.25, 0.75])).tolist() == [
        0,
        255,
        10,
        12,
    ]
    values = np.float32([-1e9, -128.4, 0.5, 1.5, 126.6, 1e9])
    assert Levels(1.0, 0, INT8).quantize(values).tolist() == [-128, -128, 0, 2, 127, 127]
    assert Levels(0.5, 0, INT8).quantize(values).tolist() == [-128, -128, 1, 3, 127, 127]


def test_range_is_that_of_the_bytes():
    assert Levels(0.5, 10).range == (-5.0, 122.5)
    assert Levels(0.5, 0, INT8).range == (-64.0, 63.5)


def test_levels_by_the_name_of_the_map():
    features, scale = Levels(0.5, 10), Levels(0.25, 0)

    assert MapLevels(features, scale).by_name == {"features": features, "scale": scale}
