"""Frames of every sort into the two inputs of the networks, against means and sums done by hand."""

import cv2
import numpy as np
import pytest

from dff_edge.errors import FrameError, ShapeError
from dff_edge.runtime.kernels.resize import FrameResizer, check_image, resize_image


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def outputs(height, width):
    return (
        np.zeros((1, height, width, 3), np.uint8),
        np.zeros((1, height // 2, width // 2, 3), np.uint8),
    )


def bilinear_by_definition(image, size):
    """Cell centres, clamped at the border."""
    height, width = size
    source_height, source_width = image.shape[:2]
    out = np.zeros((height, width, 3))
    for y, x in np.ndindex(height, width):
        v = np.clip((y + 0.5) * source_height / height - 0.5, 0, source_height - 1)
        u = np.clip((x + 0.5) * source_width / width - 0.5, 0, source_width - 1)
        y0, x0 = int(v), int(u)
        y1, x1 = min(y0 + 1, source_height - 1), min(x0 + 1, source_width - 1)
        top = image[y0, x0] * (1 - (u - x0)) + image[y0, x1] * (u - x0)
        low = image[y1, x0] * (1 - (u - x0)) + image[y1, x1] * (u - x0)
        out[y, x] = top * (1 - (v - y0)) + low * (v - y0)
    return out


def test_network_sized_frame_is_copied(rng):
    image = rng.integers(0, 256, (6, 10, 3), np.uint8)
    full, _ = outputs(6, 10)

    FrameResizer((6, 10)).full(image, full)

    np.testing.assert_array_equal(full[0], image)


def test_half_of_a_network_sized_frame_is_the_mean_of_four(rng):
    image = rng.integers(0, 256, (6, 10, 3), np.uint8)
    _, half = outputs(6, 10)

    FrameResizer((6, 10)).half(image, half)

    mean = image.reshape(3, 2, 5, 2, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(half[0], mean, atol=0.51)  # rounding to whole values


def test_an_odd_image_that_is_far_too_large_is_averaged_over_areas(rng):
    image = rng.integers(0, 256, (18, 45, 3), np.uint8)
    full = np.zeros((1, 6, 15, 3), np.uint8)

    resize_image(image, full[0])

    mean = image.reshape(6, 3, 15, 3, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(full[0], mean, atol=0.51)


@pytest.mark.parametrize("times", [2, 4, 8])
def test_powers_of_two_are_means(rng, times):
    image = rng.integers(0, 256, (6 * times, 10 * times, 3), np.uint8)
    full, half = outputs(6, 10)

    resizer = FrameResizer((6, 10))
    resizer.full(image, full)
    resizer.half(image, half)

    for found, factor in ((full[0], times), (half[0], 2 * times)):
        height, width = found.shape[:2]
        mean = image.reshape(height, factor, width, factor, 3).mean(axis=(1, 3))
        np.testing.assert_allclose(
            found, mean, atol=0.5 * np.log2(factor) + 0.01
        )  # a rounding each


@pytest.mark.parametrize("source", [(24, 40), (25, 39), (27, 45)], ids=str)
def test_shrinking_to_about_half_is_bilinear(rng, source):
    image = rng.integers(0, 256, (*source, 3), np.uint8)
    full, _ = outputs(14, 22)

    FrameResizer((14, 22)).full(image, full)

    np.testing.assert_allclose(full[0], bilinear_by_definition(image, (14, 22)), atol=1)


def test_broken_factors_are_close_to_the_mean_over_areas(rng):
    """1080p, a tenth of its size, as a camera sees things: without the finest noise."""
    image = cv2.GaussianBlur(rng.integers(0, 256, (108, 192, 3), np.uint8), (0, 0), 2)
    image = cv2.normalize(image, None, 0, 255, cv2.NORM_MINMAX)
    full, half = outputs(50, 100)

    resizer = FrameResizer((50, 100))
    resizer.full(image, full)
    resizer.half(image, half)

    for found in (full[0], half[0]):
        area = cv2.resize(image, found.shape[1::-1], interpolation=cv2.INTER_AREA)
        error = np.abs(found.astype(int) - area)
        assert error.mean() < 2.5, "of 255"
        assert error.max() < 25


def test_steps_between_are_allocated_once_for_a_size(rng, monkeypatch):
    resizer = FrameResizer((6, 10))
    full, half = outputs(6, 10)
    images = rng.integers(0, 256, (3, 96, 160, 3), np.uint8)
    resizer.full(images[0], full)
    resizer.half(images[0], half)
    monkeypatch.setattr(np, "empty", lambda *_: pytest.fail("allocated again"))
    expected = [image.reshape(3, 32, 5, 32, 3).mean(axis=(1, 3)) for image in images]
    for image, mean in zip(images, expected, strict=True):
        resizer.full(image, full)
        resizer.half(image, half)
        np.testing.assert_allclose(half[0], mean, atol=2.6)  # five roundings


@pytest.mark.parametrize("size", [(5, 7), (1, 1), (40, 7), (5, 30)], ids=str)
def test_growing_a_side_is_bilinear(rng, size):
    image = rng.integers(0, 256, (*size, 3), np.uint8)
    full, _ = outputs(12, 16)

    FrameResizer((12, 16)).full(image, full)

    np.testing.assert_allclose(full[0], bilinear_by_definition(image, (12, 16)), atol=1)


def test_views_are_resized_like_their_copies(rng):
    image = rng.integers(0, 256, (20, 30, 3), np.uint8)
    for view in (image[::-1], image[:, ::-1], image[::2, 3:], image[:, :, ::-1]):
        from_view, from_copy = outputs(6, 10)[0], outputs(6, 10)[0]
        FrameResizer((6, 10)).full(check_image(view), from_view)
        FrameResizer((6, 10)).full(view.copy(), from_copy)
        np.testing.assert_array_equal(from_view, from_copy)


def test_plain_image_is_not_copied(rng):
    image = rng.integers(0, 256, (4, 6, 3), np.uint8)

    assert check_image(image) is image


@pytest.mark.parametrize("shape", [(4, 6), (4, 6, 1)], ids=str)
def test_grey_becomes_three_equal_channels(rng, shape):
    image = rng.integers(0, 256, shape, np.uint8)

    checked = check_image(image)

    np.testing.assert_array_equal(checked, np.dstack([image.reshape(4, 6)] * 3))


def test_alpha_is_dropped(rng):
    image = rng.integers(0, 256, (4, 6, 4), np.uint8)

    checked = check_image(image)

    np.testing.assert_array_equal(checked, image[:, :, :3])
    assert checked.flags.c_contiguous


def test_non_contiguous_image_becomes_contiguous(rng):
    for channels in (1, 3, 4):
        image = rng.integers(0, 256, (8, 9, channels), np.uint8)[::2, ::-2]
        assert check_image(image).flags.c_contiguous


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ([[1, 2], [3, 4]], "is a list, expected a numpy array"),
        (None, "is a NoneType"),
        (np.zeros((4, 6, 3), np.float32), r"float32, expected uint8.*\* 255"),
        (np.zeros((4, 6, 3), np.uint16), r"uint16, expected uint8.*>> 8"),
        (np.zeros((4, 6, 3), np.int64), "int64, expected uint8"),
        (np.zeros((3, 4, 6), np.uint8), r"shape \(3, 4, 6\).*Channels come last"),
        (np.zeros((1, 4, 6, 3), np.uint8), r"shape \(1, 4, 6, 3\).*one by one"),
        (np.zeros(5, np.uint8), r"shape \(5,\)"),
        (np.zeros((0, 6, 3), np.uint8), r"empty, shape \(0, 6, 3\)"),
        (np.zeros((1, 16385, 3), np.uint8), "16385 x 1 pixels, expected at most 16384"),
    ],
    ids=str,
)
def test_unusable_image_is_refused(image, message):
    with pytest.raises(FrameError, match=message):
        check_image(image)


def test_largest_image_passes():
    assert check_image(np.zeros((1, 16384, 3), np.uint8)).shape == (1, 16384, 3)


@pytest.mark.parametrize(
    "out",
    [
        np.zeros((6, 10, 3), np.uint8),
        np.zeros((1, 10, 6, 3), np.uint8),
        np.zeros((1, 6, 10, 3), np.float32),
        np.zeros((1, 6, 20, 3), np.uint8)[:, :, ::2],
    ],
    ids=["axes", "swapped", "dtype", "strided"],
)
def test_unfit_output_is_refused(out):
    with pytest.raises(ShapeError, match=r"expected C-contiguous uint8 \(1, 6, 10, 3\)"):
        FrameResizer((6, 10)).full(np.zeros((4, 4, 3), np.uint8), out)


@pytest.mark.parametrize("size", [(5, 8), (8, 5), (0, 8)], ids=str)
def test_odd_network_size_is_refused(size):
    with pytest.raises(ShapeError, match="expected an even height and width"):
        FrameResizer(size)
