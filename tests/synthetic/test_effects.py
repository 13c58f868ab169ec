"""Camera effects: light, vignetting, blur, noise."""

import dataclasses

import numpy as np
import pytest

from dff_edge.synthetic.effects import draw_effects
from dff_edge.synthetic.motion import Oscillation, oscillation

STILL = oscillation(np.random.default_rng(0), amplitude=0.0, speed=0.0)


@pytest.fixture
def plain(rng):
    """No effect at all; each test adds its own."""
    return dataclasses.replace(
        draw_effects(rng, (60, 90)),
        gain=STILL,
        casts=(STILL, STILL, STILL),
        vignette=np.full((60, 90, 3), 255, np.uint8),
        defocus_px=0.0,
        is_motion_blurred=False,
        noise_level=0.0,
    )


@pytest.fixture
def image(rng):
    return rng.integers(60, 180, (60, 90, 3), np.uint8)


def test_no_effect_leaves_the_frame_and_gives_a_new_array(plain, image):
    out = plain.apply(image, 3, pan_px=10)

    assert np.array_equal(out, image)
    assert not np.shares_memory(out, image)


def test_the_drawn_frame_is_not_written_to(rng, image):
    before = image.copy()

    draw_effects(rng, (60, 90)).apply(image, 3, pan_px=10)

    assert np.array_equal(image, before)


def test_noise_is_unbiased_new_in_each_frame_and_repeatable(plain):
    noisy = dataclasses.replace(plain, noise_level=0.5)
    grey = np.full((60, 90, 3), 100, np.uint8)

    first, again, second = (noisy.apply(grey, index, 0.0) for index in (0, 0, 1))

    assert np.array_equal(first, again)
    assert (first != second).mean() > 0.5
    assert first.mean() == pytest.approx(100, abs=0.5)
    assert first.std() == pytest.approx(0.5 * 16, rel=0.1)


def test_light_changes_over_time_and_by_channel(plain, image):
    lit = dataclasses.replace(
        plain,
        gain=Oscillation(np.array([0.3]), np.array([0.1]), np.array([0.0])),
        casts=(STILL, STILL, Oscillation(np.array([-0.1]), np.array([0.1]), np.array([0.0]))),
    )

    out = lit.apply(image, 10, 0.0).astype(float)

    gain, cast = 1 + 0.3 * np.sin(1), 1 - 0.1 * np.sin(1)
    expected = np.clip(image * [gain, gain, gain * cast], 0, 255)
    np.testing.assert_allclose(out, expected, atol=1.0)  # truncated to whole numbers


def test_vignette_darkens_the_corners_only(rng, plain):
    drawn = draw_effects(np.random.default_rng(1), (60, 90)).vignette.astype(int)

    assert drawn[29:31, 44:46].min() >= 254
    assert drawn[0, 0].max() < 254
    assert (np.diff(drawn[30, 45:, 0]) <= 0).all()


def test_motion_blur_smears_along_rows_when_the_camera_pans(plain):
    dot = np.zeros((60, 90, 3), np.uint8)
    dot[30, 45] = 200
    blurred = dataclasses.replace(plain, is_motion_blurred=True)

    fast, slow = blurred.apply(dot, 0, pan_px=-20.0), blurred.apply(dot, 0, pan_px=1.0)

    assert (fast[30] > 0).any(axis=-1).sum() == 7  # 0.35 of 20 px
    assert (np.delete(fast, 30, axis=0) == 0).all()
    assert np.array_equal(slow, dot)


def test_defocus_spreads_in_both_directions(plain):
    dot = np.zeros((60, 90, 3), np.uint8)
    dot[30, 45] = 200

    out = dataclasses.replace(plain, defocus_px=0.9).apply(dot, 0, 0.0)

    assert 0 < out[29, 45, 0] == out[31, 45, 0] == out[30, 44, 0] < out[30, 45, 0] < 200
