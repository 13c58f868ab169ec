"""Resizing on the device against ``runtime/kernels/resize.py``: one rule, two pieces of code."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

from dff_edge.runtime.kernels.resize import resize_image
from tests.runtime.devices.cuda.emulation import build

# OpenCV interpolates with eleven bits, the kernel in float32.
ATOL = 1


@pytest.fixture(scope="session")
def resize(build_folder):
    """dff_cuda_resize over numpy arrays: emulated kernels, on the default stream."""
    library = ctypes.CDLL(str(build(build_folder)[1]))
    sizes = [ctypes.c_int64] * 3
    library.dff_cuda_resize.argtypes = [
        *(ctypes.c_void_p, *sizes, ctypes.c_void_p, *sizes[:2], ctypes.c_void_p)
    ]

    def call(image, out):
        status = library.dff_cuda_resize(
            *(image.ctypes.data, *image.shape[:2], image.strides[0]),
            *(out.ctypes.data, *out.shape[:2], None),
        )
        assert status == 0

    return call


def picture(rng, size):
    """Noise on a slope: fine detail and flat parts."""
    slope = np.add.outer(np.arange(size[0]), np.arange(size[1])) % 256
    noise = rng.integers(-60, 61, (*size, 3))
    return np.clip(slope[..., None] + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("size", "out_size"),
    [
        ((37, 53), (37, 53)),  # copied
        ((64, 96), (32, 48)),  # halved
        ((128, 192), (16, 24)),  # three times
        ((270, 480), (128, 256)),  # 1080p to 512x1024, a quarter of each: bilinear
        ((270, 480), (64, 128)),  # the same to half that size: halved, then bilinear
        ((120, 160), (128, 256)),  # enlarged
        ((101, 203), (32, 64)),  # areas
        ((202, 406), (32, 64)),  # halved, then areas
        ((90, 20), (30, 40)),  # a side shrinks far, the other grows
        ((512, 512), (8, 8)),  # six halvings, of which the kernel does two at once
    ],
)
def test_within_a_level_of_opencv(rng, resize, size, out_size):
    image = picture(rng, size)
    got, expected = np.zeros((*out_size, 3), np.uint8), np.zeros((*out_size, 3), np.uint8)
    resize(image, got)
    resize_image(image, expected)
    assert np.abs(got.astype(int) - expected).max() <= ATOL


@pytest.mark.parametrize(("size", "out_size"), [((64, 96), (32, 48)), ((128, 192), (16, 24))])
def test_halving_gives_the_same_bytes(rng, resize, size, out_size):
    image = picture(rng, size)
    got, expected = np.zeros((*out_size, 3), np.uint8), np.zeros((*out_size, 3), np.uint8)
    resize(image, got)
    resize_image(image, expected)
    np.testing.assert_array_equal(got, expected)


def test_rows_may_have_a_gap(rng, resize):
    wide = picture(rng, (48, 80))
    image = wide[:, 8:72]
    got, expected = np.zeros((20, 30, 3), np.uint8), np.zeros((20, 30, 3), np.uint8)
    resize(image, got)
    resize(np.ascontiguousarray(image), expected)
    np.testing.assert_array_equal(got, expected)
