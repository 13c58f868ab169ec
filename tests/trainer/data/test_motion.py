"""Synthetic motion: its flow against hand-made numbers, and against the frames that it makes."""

import cv2
import numpy as np
import pytest

from dff_edge.trainer.data.motion import Layer, Motion, Wave, apply, draw_motion, invert
from dff_edge.trainer.data.still_pairs import sample, sample_labels

PICTURE = (150, 240)
FRAME = (96, 160)
STILL = np.array([[1.0, 0, 0], [0, 1, 0]])


def moved(x, y):
    return np.array([[1.0, 0, x], [0, 1, y]])


def flat():
    return Wave(np.zeros(2), np.zeros((2, 2)), np.zeros(2))


def drawn(seed, distance=9, enlarge=1.5, shrink=1.0, mirror=False, patches=2, drives=False):
    return draw_motion(
        np.random.default_rng(seed),
        picture_size=PICTURE,
        frame_size=FRAME,
        distance=distance,
        enlarge=enlarge,
        shrink=shrink,
        mirror=mirror,
        patches=patches,
        drives=drives,
    )


def smooth_picture(seed):
    noise = np.random.default_rng(seed).normal(size=(*PICTURE, 3))
    soft = cv2.GaussianBlur(noise, (0, 0), 3)
    return np.clip(128 + soft / soft.std() * 40, 0, 255).astype(np.uint8)


def test_a_patch_by_hand():
    """A 4 x 4 patch moves 4 px to the right over a picture that moves 2 px down."""
    square = np.array([[2.0, 0, 2], [0, 2, 2]])  # the patch's place in the picture, in both frames
    patch = Layer("rectangle", square + moved(10, 0) - STILL, square, square + moved(4, 0) - STILL)
    motion = Motion((8, 12), [Layer("all", STILL, STILL, moved(0, 2)), patch], flat(), (16, 16))

    flow = motion.flow(1)

    expected = np.full((8, 12, 2), [0.0, -2.0], np.float32)
    expected[:2] = np.nan  # above the key frame
    expected[2:6, :4] = np.nan  # would be rows 0..3 of the key frame, where the patch is
    expected[:4, 4:8] = [-4, 0]
    np.testing.assert_array_equal(flow, expected)
    places = motion.current_map()
    assert places[1, 5].tolist() == [11.5, 1.5]  # of the patch
    assert places[5, 5].tolist() == [5.5, 3.5]
    assert motion.key_map()[5, 5].tolist() == [5.5, 5.5]


def test_cells_have_the_flow_of_their_centres():
    motion = drawn(3, patches=0)

    fine, coarse = motion.flow(1), motion.flow(8)

    assert coarse.shape == (12, 20, 2)
    centres = sum(fine[a::8, b::8] for a in (3, 4) for b in (3, 4)) / 4
    np.testing.assert_allclose(coarse, centres, atol=0.02)


@pytest.mark.parametrize("drives", [False, True])
@pytest.mark.parametrize("mirror", [False, True])
def test_the_key_frame_warped_along_the_flow_is_the_current_one(mirror, drives):
    errors, still_errors, known_shares = [], [], []
    for seed in range(6):
        motion, picture = drawn(seed, mirror=mirror, drives=drives), smooth_picture(seed)
        key = sample(picture, motion.key_map()).astype(np.float32)
        current = sample(picture, motion.current_map()).astype(np.float32)
        flow = motion.flow(1)
        known = np.isfinite(flow[..., 0])
        rows, columns = np.mgrid[: FRAME[0], : FRAME[1]].astype(np.float32)
        warped = cv2.remap(key, columns + flow[..., 0], rows + flow[..., 1], cv2.INTER_LINEAR)
        errors.append(abs(warped - current)[known].mean())
        still_errors.append(abs(key - current)[known].mean())
        known_shares.append(known.mean())

    assert max(errors) < 2.5, errors
    assert np.mean(still_errors) > 10 * np.mean(errors)
    assert min(known_shares) > 0.7


def test_nothing_outside_the_picture_is_needed():
    for seed in range(40):
        motion = drawn(seed, distance=seed % 20, enlarge=1.0, mirror=seed % 2 == 1)
        for places in (motion.key_map(), motion.current_map()):
            assert places.min() >= 0
            assert (places <= (PICTURE[1], PICTURE[0])).all()


def test_motion_grows_with_the_distance():
    def mean_length(distance):
        flows = [drawn(seed, distance, patches=0).flow(8) for seed in range(20)]
        return np.nanmean([np.linalg.norm(flow, axis=-1).ravel() for flow in flows])

    lengths = [mean_length(distance) for distance in (0, 1, 3, 9)]

    assert lengths[0] < 1e-9
    assert lengths[0] < lengths[1] < lengths[2] < lengths[3]


def test_patches_move_beyond_the_picture():
    """By up to 1.5% of the width in a frame, for x and for y."""
    lengths = []
    for seed in range(30):
        back, *patches = drawn(seed).layers
        for patch in patches:
            centre = apply(patch.current, np.zeros((1, 2)))
            of_picture = apply(back.key, apply(invert(back.current), centre))
            lengths.append(np.linalg.norm(apply(patch.key, np.zeros((1, 2))) - of_picture))

    assert 2 < np.mean(lengths)
    assert max(lengths) < 1.2 * np.hypot(1, 1) * 0.015 * FRAME[1] * 9


def test_labels_go_with_the_image():
    labels = np.random.default_rng(0).integers(0, 5, (15, 24)).astype(np.uint8)
    labels = np.kron(labels, np.ones((10, 10), np.uint8))
    motion = drawn(1)
    image = sample(np.repeat(labels[..., None] * 50, 3, axis=2), motion.current_map())
    seen = sample_labels(labels, motion.current_map())

    same = cv2.erode(seen, np.ones((5, 5))) == cv2.dilate(seen, np.ones((5, 5)))

    assert same.mean() > 0.2
    assert (image[same][:, 0] == seen[same] * 50).all()


def test_a_view_without_motion_is_the_picture():
    picture = smooth_picture(0)
    places = np.stack(np.meshgrid(np.arange(240) + 0.5, np.arange(150) + 0.5), axis=-1)

    assert np.array_equal(sample(picture, places), picture)


def test_large_pictures_are_averaged_not_skipped():
    """Every fourth column is white: a quarter of it, wherever the frame's pixels fall."""
    stripes = np.zeros((96 * 4, 160 * 4, 3), np.uint8)
    stripes[:, ::4] = 200
    places = np.stack(np.meshgrid(np.arange(160) * 4 + 2.0, np.arange(96) * 4 + 2.0), axis=-1)

    assert (abs(sample(stripes, places).astype(int) - 50) <= 1).all()
