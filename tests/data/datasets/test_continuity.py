"""Frames of one video are told from unrelated pictures."""

import cv2
import numpy as np
import pytest

from dff_edge.data.datasets.continuity import MIN_CARRIED, carried_share, measure_continuity
from dff_edge.synthetic import StreetScene


class Clip:
    def __init__(self, images, name="clip"):
        self.name, self._images, self.reads = name, images, []

    def __len__(self):
        return len(self._images)

    def image(self, index):
        self.reads.append(index)
        return self._images[index]


def street(seed, frame=0, size=(96, 192)):
    return StreetScene(seed, "val", size, 40).render(frame)[0]


def noise(seed, size=(96, 192)):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


def dark(image, seed):
    """As a camera at night sees it: 15 levels, and noise of 4."""
    grain = np.random.default_rng(seed).normal(0, 4, image.shape)
    return np.clip(image * 0.06 + grain, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("step", [1, 3])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_frames_of_one_scene_are_related(seed, step):
    assert carried_share(street(seed), street(seed, step)) > 2 * MIN_CARRIED


def test_frames_of_a_dark_scene_are_related():
    first, second = dark(street(1), 1), dark(street(1, 1), 2)

    assert carried_share(first, second) > MIN_CARRIED


@pytest.mark.parametrize("seed", range(4))
def test_other_scenes_and_noise_are_not(seed):
    assert carried_share(street(seed), street(seed + 10)) < MIN_CARRIED
    assert carried_share(noise(seed), noise(seed + 10)) < MIN_CARRIED
    assert carried_share(street(seed), noise(seed)) < MIN_CARRIED


def test_the_same_frame_is_related_whatever_it_shows():
    for image in (street(1), noise(1), np.full((40, 60, 3), 7, np.uint8)):
        assert carried_share(image, image) == pytest.approx(1)


def test_frames_without_contrast_stay_where_they_are():
    dim, bright = (np.full((40, 60, 3), level, np.uint8) for level in (7, 200))

    assert carried_share(dim, bright) == pytest.approx(1)


def test_a_frame_of_another_size_is_not_related():
    assert carried_share(street(1), street(1)[:-2]) == 0


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (1, 3000), (3000, 1), (10, 4000), (4000, 10)])
def test_frames_of_every_shape_are_taken(size):
    image = noise(1, size)

    assert carried_share(image, image) == pytest.approx(1)


def test_pairs_are_counted_over_all_clips():
    still = Clip([street(n) for n in range(3)], "stills")
    video = Clip([street(9, n) for n in range(4)], "video")

    found = measure_continuity([still, Clip([street(1)]), video])

    assert found.pairs == 5
    assert found.unrelated == ["frames 0 and 1 of 'stills'", "frames 1 and 2 of 'stills'"]
    assert found.share == 2 / 5
    assert still.reads == sorted(still.reads)


def test_some_pairs_of_long_clips_are_enough():
    clip = Clip([cv2.resize(street(1), (64, 32))] * 500)

    found = measure_continuity([clip], most=4)

    assert found.pairs == 4
    assert (min(clip.reads), max(clip.reads)) == (0, 499)


def test_clips_of_one_frame_have_no_pairs():
    found = measure_continuity([Clip([street(1)])])

    assert (found.pairs, found.share) == (0, 0)
