"""Class colours over a frame, pixel by pixel against the blend written out."""

import numpy as np
import pytest

from dff_edge.errors import ConfigError, ShapeError
from dff_edge.runtime.drawing.overlay import draw_overlay

COLOURS = [(255, 0, 0), (0, 255, 10), (30, 60, 90)]  # RGB


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_overlay_is_the_blend_in_bgr(rng):
    image = rng.integers(0, 256, (5, 7, 3), np.uint8)
    labels = rng.integers(0, 3, (5, 7)).astype(np.uint8)

    blended = draw_overlay(image, labels, COLOURS, alpha=0.3)

    expected = 0.7 * image + 0.3 * np.array(COLOURS)[:, ::-1][labels]
    np.testing.assert_allclose(blended, expected, atol=0.51)  # rounding to whole values


def test_input_is_left_alone(rng):
    image = rng.integers(0, 256, (100, 200, 3), np.uint8)
    before = image.copy()

    draw_overlay(image, np.zeros((100, 200), np.uint8), COLOURS, caption="frame 1", legend=["a"])

    np.testing.assert_array_equal(image, before)


def test_pixels_without_a_class_keep_the_picture(rng):
    image = rng.integers(0, 256, (5, 7, 3), np.uint8)
    labels = np.full((5, 7), 255, np.uint8)
    labels[2] = 1

    blended = draw_overlay(image, labels, COLOURS, alpha=1.0)

    np.testing.assert_array_equal(blended[[0, 1, 3, 4]], image[[0, 1, 3, 4]])
    np.testing.assert_array_equal(blended[2], np.tile([10, 255, 0], (7, 1)))


def test_caption_changes_the_top_left_corner_only():
    image = np.full((240, 320, 3), 100, np.uint8)
    labels = np.full((240, 320), 255, np.uint8)

    plain = draw_overlay(image, labels, COLOURS)
    written = draw_overlay(image, labels, COLOURS, caption="frame 12, key frame")

    ys, xs = np.nonzero((plain != written).any(axis=2))
    assert ys.size
    assert ys.max() < 60
    assert xs.max() < 200
    assert written.max() > 240  # bright letters on a dark strip
    assert written.min() < 50


def test_legend_shows_each_colour_bottom_left():
    image = np.full((240, 320, 3), 100, np.uint8)
    labels = np.full((240, 320), 255, np.uint8)

    drawn = draw_overlay(image, labels, COLOURS, legend=["road", "pole", "sky"])

    corner = drawn[120:, :160].reshape(-1, 3).tolist()
    assert all([b, g, r] in corner for r, g, b in COLOURS)
    np.testing.assert_array_equal(drawn[:120], image[:120])


@pytest.mark.parametrize("size", [(1, 1), (16, 16), (20, 400), (400, 20)], ids=str)
def test_text_is_left_out_where_it_does_not_fit(size):
    image = np.full((*size, 3), 100, np.uint8)
    labels = np.full(size, 255, np.uint8)

    drawn = draw_overlay(image, labels, COLOURS, caption="frame 12, key frame", legend=["road"] * 3)

    np.testing.assert_array_equal(drawn, image)


def test_labels_of_another_size_are_refused():
    with pytest.raises(ShapeError, match=r"uint8 \(4, 6\), expected uint8 \(5, 7\)"):
        draw_overlay(np.zeros((5, 7, 3), np.uint8), np.zeros((4, 6), np.uint8), COLOURS)


@pytest.mark.parametrize(
    ("colours", "alpha", "message"),
    [
        (COLOURS, 1.5, "alpha is 1.5, expected 0"),
        ([(0, 0, 256)], 0.5, "from 0 to 256, expected 0..255"),
        ([(0, 0)], 0.5, r"shape \(1, 2\), expected a \(red, green, blue\)"),
        ([], 0.5, r"expected a \(red, green, blue\) for each"),
    ],
)
def test_unfit_colours_are_refused(colours, alpha, message):
    with pytest.raises(ConfigError, match=message):
        draw_overlay(
            np.zeros((5, 7, 3), np.uint8), np.zeros((5, 7), np.uint8), colours, alpha=alpha
        )


@pytest.mark.parametrize("size", [(240, 320), (352, 480), (480, 640), (1080, 1920)], ids=str)
def test_nineteen_names_fit_in_two_columns(size):
    colours = [(10 * index, 255 - index, index) for index in range(19)]
    image = np.full((*size, 3), 100, np.uint8)
    labels = np.full(size, 255, np.uint8)

    drawn = draw_overlay(image, labels, colours, legend=[f"class {i}" for i in range(19)])

    shown = {tuple(pixel) for pixel in drawn.reshape(-1, 3).tolist()}
    assert {colour[::-1] for colour in colours} <= shown
    ys, xs = np.nonzero((drawn != image).any(axis=2))
    assert ys.min() >= size[0] // 3  # the rest of the picture stays free
    assert xs.max() < size[1] * 2 / 3


@pytest.mark.parametrize(
    ("size", "height_px"), [((240, 320), 9), ((480, 640), 14), ((1080, 1920), 24)]
)
def test_letters_are_legible_and_not_over_large(size, height_px):
    image = np.zeros((*size, 3), np.uint8)
    drawn = draw_overlay(image, np.full(size, 255, np.uint8), COLOURS, caption="HEIGHT")
    rows = np.nonzero((drawn > 128).any(axis=(1, 2)))[0]
    assert rows.max() - rows.min() + 1 == pytest.approx(height_px, abs=2)


def test_caption_stays_on_its_panel():
    """At large sizes letters are bold, and wider."""
    image = np.full((1080, 1920, 3), 100, np.uint8)
    labels = np.full((1080, 1920), 255, np.uint8)
    drawn = draw_overlay(image, labels, COLOURS, caption="frame 1234, features 9 frames old")
    panel = np.nonzero((drawn[2] != 100).any(axis=1))[0].max()
    assert np.nonzero((drawn != 100).any(axis=(0, 2)))[0].max() == panel
