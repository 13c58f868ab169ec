"""Changes of colour, against what they must leave alone."""

import cv2
import numpy as np

from dff_edge.trainer.data.colour import jitter_colours

IMAGE = np.random.default_rng(0).integers(60, 196, (8, 12, 3), np.uint8)


def luma(image):
    return image.astype(float) @ [0.114, 0.587, 0.299]


def test_strength_0_changes_nothing_and_draws_nothing():
    rng, untouched = np.random.default_rng(1), np.random.default_rng(1)

    (out,) = jitter_colours([IMAGE], rng, 0.0)

    assert out is IMAGE
    assert rng.random() == untouched.random()


def test_images_are_changed_alike():
    first, mirrored = jitter_colours([IMAGE, IMAGE[:, ::-1]], np.random.default_rng(1), 0.3)

    assert not np.array_equal(first, IMAGE)
    assert np.array_equal(first, mirrored[:, ::-1])


def test_grey_stays_grey():
    grey = np.repeat(IMAGE[..., :1], 3, axis=2)
    for seed in range(5):
        (out,) = jitter_colours([grey], np.random.default_rng(seed), 0.3)

        assert np.ptp(out.astype(int), axis=2).max() <= 1


def test_luma_follows_brightness_and_contrast_alone():
    """Luma is a straight line of what it was, whatever saturation and hue do."""
    for seed in range(5):
        (out,) = jitter_colours([IMAGE], np.random.default_rng(seed), 0.15)
        slope, offset = np.polyfit(luma(IMAGE).ravel(), luma(out).ravel(), 1)

        assert abs(slope * luma(IMAGE) + offset - luma(out)).max() < 1.5
        assert 0.85**2 - 0.01 <= slope <= 1.15**2 + 0.01


def test_hue_is_turned_a_little():
    red = np.full((4, 4, 3), (60, 60, 180), np.uint8)
    hues = []
    for seed in range(20):
        (out,) = jitter_colours([red], np.random.default_rng(seed), 0.5)
        hues.append(2 * int(cv2.cvtColor(out, cv2.COLOR_BGR2HSV)[0, 0, 0]))
    turns = [(hue + 180) % 360 - 180 for hue in hues]

    assert max(turns) > 4
    assert min(turns) < -4
    assert max(map(abs, turns)) <= 20


def test_contrast_is_about_the_middle():
    class Fixed:
        def uniform(self, _low, _high, count=None):
            return (1.0, 1.2, 1.0) if count else 0.0  # brightness, contrast, saturation; hue

    levels = np.array([[[78] * 3, [128] * 3, [178] * 3]], np.uint8)

    (out,) = jitter_colours([levels], Fixed(), 0.3)

    assert out[0, :, 0].tolist() == [68, 128, 188]
