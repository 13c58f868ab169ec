"""The width multiplier."""

from __future__ import annotations

import pytest

from dff_edge.trainer.models.width import scale_kernels


@pytest.mark.parametrize(
    ("kernels", "width", "expected"),
    [(64, 1.0, 64), (6, 1.0, 6), (64, 0.5, 32), (24, 0.5, 16), (64, 0.01, 8), (64, 1.5, 96)],
)
def test_kernels_are_multiples_of_8(kernels, width, expected):
    assert scale_kernels(kernels, width) == expected
