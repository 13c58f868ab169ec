"""Textures: shapes, transparency, and that small and large frames get some."""

import numpy as np
import pytest

from dff_edge.synthetic import paint

UNITS = [0.125, 0.25, 1.0, 2.1]  # frames of 32, 64, 256 and 540 rows
THINGS = [paint.vehicle, paint.pedestrian, paint.pole, paint.tree]


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("thing", THINGS)
def test_things_stand_on_their_last_rows_and_are_transparent_around(rng, thing, unit):
    for _ in range(20):
        texture = thing(rng, unit)
        rows, columns, channels = texture.shape
        alpha = texture[..., 3]

        assert channels == 4
        assert texture.dtype == np.uint8
        assert min(rows, columns) >= 2
        assert alpha[-3:].max() > 127
        assert alpha.min() < 128
        assert alpha.max() == 255


@pytest.mark.parametrize("thing", THINGS)
def test_colours_are_multiplied_by_alpha(rng, thing):
    texture = thing(rng, 1.0).astype(int)

    assert (texture[..., :3] <= texture[..., 3:] + 1).all()  # 1 for the rounding
    assert (texture[..., 3] == 0).any()


@pytest.mark.parametrize("unit", UNITS)
def test_ground_and_sky_are_opaque(rng, unit):
    height, width = int(200 * unit), int(900 * unit)
    layers = [
        paint.sky(rng, height, width),
        paint.pavement(rng, height, width, unit),
        paint.road(rng, height, width, unit),
    ]

    for texture in layers:
        assert texture.shape == (height, width, 4)
        assert (texture[..., 3] == 255).all()
        assert texture[..., :3].std() > 3  # textured


def test_skyline_stands_on_its_base_and_leaves_the_sky_free(rng):
    texture = paint.skyline(rng, 160, 900, 159, 1.0)
    alpha = texture[..., 3]

    assert (alpha[:30] == 0).all()  # the highest house is 125 px
    assert (alpha[120:159] == 255).mean() > 0.7  # gaps between houses are the exception
    assert (alpha[159:] == 0).all()


def test_noise_is_about_zero_and_bounded_by_its_amplitudes(rng):
    image = paint.noise(rng, 301, 200, ((24, 60, 22.0), (9, 20, 9.0), (2, 2, 3.0)))

    assert image.shape == (301, 200)
    assert image.dtype == np.float32
    assert np.abs(image).max() <= 34.0
    assert abs(image.mean()) < 5
    assert image.std() > 5


def test_textures_repeat_with_the_seed():
    first, second, other = (paint.tree(np.random.default_rng(seed), 1.0) for seed in (4, 4, 5))

    assert np.array_equal(first, second)
    assert first.shape != other.shape or not np.array_equal(first, other)
