"""Cuts of a scene: what is one, and what is motion, light or noise."""

from __future__ import annotations

import numpy as np
import pytest

from dff_edge.frames import Frame
from dff_edge.runtime.cuts import CutDetector, changed_share, histograms
from dff_edge.synthetic import StreetScene

SIZE = (128, 256)


def street(seed, count):
    scene = StreetScene(seed, "val", SIZE, count)
    return [scene.render(index)[0] for index in range(count)]


def cuts_in(images):
    detector = CutDetector()
    return [i for i, image in enumerate(images) if detector.is_cut(Frame(image, i, i / 30))]


def test_histograms_count_each_block_by_itself():
    image = np.zeros((6, 8, 3), np.uint8)
    image[:2, :2] = 255  # the first of 3 x 4 blocks
    found = histograms(image)

    assert found.shape == (12, 16)
    assert found.sum(axis=1) == pytest.approx(np.ones(12))
    assert found[0, 15] == pytest.approx(1)
    assert found[1:, 0] == pytest.approx(np.ones(11))


def test_a_pixel_counts_for_the_two_nearest_bins():
    image = np.full((6, 8, 3), 17 * 4 + 5, np.uint8)  # bins are 17 levels apart
    found = histograms(image)

    assert found[:, 4] == pytest.approx(np.full(12, 12 / 17))
    assert found[:, 5] == pytest.approx(np.full(12, 5 / 17))


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [(0, 0, 0.0), (0, 255, 1.0), (0, 17, 1.0), (34, 51 - 17 // 2, 9 / 17)],
)
def test_changed_share_is_of_the_pixels(before, after, expected):
    found = [histograms(np.full((6, 8, 3), level, np.uint8)) for level in (before, after)]

    assert changed_share(*found) == pytest.approx(expected)


@pytest.mark.parametrize("size", [(1, 1), (2, 300), (47, 63), (1080, 1920)])
def test_pictures_of_any_size_are_looked_at(size):
    found = histograms(np.full((*size, 3), 255, np.uint8))
    assert found.sum() == pytest.approx(np.count_nonzero(found.sum(axis=1)))
    assert changed_share(found, found) == 0


@pytest.mark.parametrize("seed", range(4))
def test_cuts_between_streets_are_found_and_motion_is_none(seed):
    first, second = (street(own, 5) for own in (seed, seed + 50))

    assert cuts_in([*first, *second]) == [5]


def test_the_first_frame_is_no_cut_and_images_elsewhere_are_not_looked_at():
    detector = CutDetector()
    black, white = (np.full((6, 8, 3), level, np.uint8) for level in (0, 255))

    assert not detector.is_cut(Frame(black, 0, 0.0))
    assert not detector.is_cut(Frame(object(), 1, 0.03))
    assert detector.is_cut(Frame(white, 2, 0.06))


def test_frames_with_a_gap_between_them_are_not_compared():
    detector = CutDetector()
    black, white = (np.full((6, 8, 3), level, np.uint8) for level in (0, 255))

    told = [
        detector.is_cut(Frame(image, index, stamp_s))
        for index, (image, stamp_s) in enumerate([(black, 0.0), (white, 0.2), (black, 0.25)])
    ]
    assert told == [False, False, True]


def test_a_little_more_light_is_no_cut():
    (image,) = street(3, 1)
    brighter = np.clip(image.astype(float) * 1.05, 0, 255).astype(np.uint8)

    assert cuts_in([image, brighter]) == []
