"""One surface: drawing by hand-checked numbers, and the inverse of its motion."""

import numpy as np
import pytest

from dff_edge.synthetic.motion import oscillation
from dff_edge.synthetic.surfaces import Surface, Sway

ATOL = 1e-9  # float64, a few products of numbers below 1000


def moved_by(dx, dy, scale=1.0):
    return lambda t: np.array([[scale, 0.0, dx * t], [0.0, scale, dy * t]])


def plate(value, alpha=255, size=(4, 5)):
    """A texture of one colour, premultiplied."""
    colour = round(value * alpha / 255)
    return np.full((*size, 4), [colour, colour, colour, alpha], np.uint8)


def canvas(value=0, size=(20, 30)):
    return np.full((*size, 3), value, np.uint8), np.zeros(size, np.int16)


@pytest.fixture
def swaying(rng):
    sway = Sway(oscillation(rng, amplitude=4.0, speed=1.0), np.linspace(1, 0, 11) ** 2)

    def matrix(t):
        return np.array([[1.3, 0.1, 5 + 2 * t], [-0.1, 1.3, 40 - t]])

    return Surface(2, 0.7, np.zeros((11, 7, 4), np.uint8), matrix, sway)


def test_whole_steps_copy_the_texture(rng):
    texture = rng.integers(0, 256, (4, 5, 4), np.uint8)
    texture[..., 3] = 255
    image, owners = canvas()

    Surface(1, 0.5, texture, moved_by(6, 3)).draw(image, owners, 9, t=2)

    assert np.array_equal(image[6:10, 12:17], texture[..., :3])
    assert (owners[6:10, 12:17] == 9).all()
    assert (owners == 9).sum() == 20
    assert image.astype(int).sum() == texture[..., :3].astype(int).sum()


def test_half_transparent_texture_is_blended():
    image, owners = canvas(100)

    Surface(1, 0.5, plate(200, alpha=51), moved_by(0, 0)).draw(image, owners, 9, t=0)

    assert (image[:4, :5] == 120).all()  # 0.2 * 200 + 0.8 * 100
    assert (image[4:] == 100).all()


@pytest.mark.parametrize(("alpha", "count"), [(127, 0), (128, 20)])
def test_more_than_half_opaque_owns_the_pixel(alpha, count):
    image, owners = canvas()

    Surface(1, 0.5, plate(200, alpha), moved_by(0, 0)).draw(image, owners, 9, t=0)

    assert (owners == 9).sum() == count


@pytest.mark.parametrize("place", [(-50, 0), (50, 0), (0, -50), (0, 50)])
def test_nothing_is_drawn_outside_the_frame(place):
    image, owners = canvas(7)

    Surface(1, 0.5, plate(200), moved_by(*place)).draw(image, owners, 9, t=1)

    assert (image == 7).all()
    assert (owners == 0).all()


def test_surface_across_the_border_is_cut_there():
    image, owners = canvas()

    Surface(1, 0.5, plate(200), moved_by(-3, -2)).draw(image, owners, 9, t=1)

    assert (owners == 9).sum() == 2 * 2
    assert (owners[:2, :2] == 9).all()


def test_to_texture_undoes_to_screen(swaying, rng):
    points = rng.uniform(-20, 20, (5, 7, 2))
    before = points.copy()

    screen = swaying.to_screen(points, 3.0)

    np.testing.assert_allclose(swaying.to_texture(screen, 3.0), points, atol=ATOL)
    assert np.array_equal(points, before)  # the caller's array is left alone


def test_sway_moves_a_row_by_its_profile(swaying):
    top, middle, foot = swaying.to_screen(np.array([[0.0, 0.0], [0.0, 5.0], [0.0, 10.0]]), 3.0)

    swing = swaying.sway.swing.at(3.0)
    matrix = swaying.matrix(3.0)
    np.testing.assert_allclose(top, matrix @ (swing, 0, 1), atol=ATOL)
    np.testing.assert_allclose(middle, matrix @ (swing * 0.25, 5, 1), atol=ATOL)
    np.testing.assert_allclose(foot, matrix @ (0, 10, 1), atol=ATOL)


def test_swaying_texture_is_drawn_where_to_screen_says(rng):
    texture = np.zeros((11, 40, 4), np.uint8)
    texture[:, 20] = 255  # a vertical line
    sway = Sway(oscillation(rng, amplitude=9.0, speed=9.0, terms=1), np.linspace(1, 0, 11))
    surface = Surface(2, 0.7, texture, moved_by(0, 0), sway)
    t = next(t for t in range(20) if abs(sway.swing.at(t)) > 4)
    image, owners = canvas(size=(12, 60))

    surface.draw(image, owners, 9, t)

    line = np.stack([np.full(11, 20.0), np.arange(11.0)], axis=-1)
    expected = surface.to_screen(line, t)[:, 0]
    weights = image[:11, :, 0].astype(float)
    drawn = (weights * np.arange(60)).sum(axis=1) / weights.sum(axis=1)
    np.testing.assert_allclose(drawn, expected, atol=0.05)  # remap works in 1/32 px
