"""Flow is changed as its pictures are: warping the key frame along it gives the current one."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from dff_edge.trainer.data.flow_augmentation import (
    Colours,
    Views,
    augment_flow,
    draw_colours,
    draw_views,
    plain_flow,
    view_pair,
)

SIZE = (96, 128)  # of the pictures
FRAME = (128, 192)
# What is at x in the current picture is at MOTION @ (x, 1) in the key picture.
MOTION = np.array([[1.04, 0.03, -3.5], [-0.02, 0.97, 2.25]])


@pytest.fixture(scope="module")
def pictures():
    """Current and key picture, and the flow between them in pixels."""
    noise = np.random.default_rng(3).uniform(0, 255, (*SIZE, 3))
    smooth = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 3), None, 0, 255, cv2.NORM_MINMAX)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]].astype(np.float32)
    points = np.stack([x, y], -1) + 0.5
    target = points @ MOTION[:, :2].T + MOTION[:, 2]
    map_x, map_y = (target - 0.5).astype(np.float32).transpose(2, 0, 1)
    current = cv2.remap(smooth, map_x, map_y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    as_bytes = [np.clip(np.rint(image), 0, 255).astype(np.uint8) for image in (current, smooth)]
    return (*as_bytes, (target - points).astype(np.float32))


def followed(pair):
    """The key frame seen along the flow, and which of its pixels are in the key frame."""
    height, width = pair.current.shape[:2]
    cells_y, cells_x = (np.mgrid[:height, :width].astype(np.float32) + 0.5) / 8 - 0.5
    flow_px = cv2.remap(pair.flow_px, cells_x, cells_y, cv2.INTER_LINEAR)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    x, y = x + flow_px[..., 0], y + flow_px[..., 1]
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    inside[:4] = inside[-4:] = inside[:, :4] = inside[:, -4:] = False  # beyond the outer cells
    return cv2.remap(pair.key, x, y, cv2.INTER_LINEAR), inside


@pytest.mark.parametrize("seed", range(4))
def test_key_frame_along_the_flow_is_the_current_frame(pictures, seed):
    rng = np.random.default_rng(seed)
    views = draw_views(rng, SIZE, FRAME)
    pair = view_pair(*pictures, views, FRAME)

    seen, inside = followed(pair)

    assert np.isfinite(pair.flow_px).all()
    assert inside.mean() > 0.5
    moved = np.abs(seen.astype(float) - pair.current)[inside].mean()
    still = np.abs(pair.key.astype(float) - pair.current)[inside].mean()
    assert moved < 1
    assert still > 8  # so that the error above says something


def test_flow_by_hand():
    # The current frame shows every pixel twice as large, the key frame is turned by a quarter.
    current = np.array([[0.5, 0, 10], [0, 0.5, 20]])
    key = np.array([[0, -1, 50.0], [1, 0, -40.0]])
    flow_px = np.full((*SIZE, 2), (3, -2), np.float32)
    image = np.zeros((*SIZE, 3), np.uint8)

    flow = view_pair(image, image, flow_px, Views(current, key), (32, 32)).flow_px

    # Centre of cell (1, 2): p = (20, 12) is at (20, 26), moves to (23, 24); there x = 50 - v and
    # y = u - 40, so that (u, v) = (64, 27).
    np.testing.assert_allclose(flow[1, 2], np.float32([64 - 20, 27 - 12]))


def test_unknown_flow_stays_unknown_and_does_not_spread(pictures):
    current, key, flow_px = pictures
    flow_px = flow_px.copy()
    flow_px[40:56, 60:76] = np.nan

    flow = plain_flow(current, key, flow_px, FRAME).flow_px

    assert 0 < np.isnan(flow).any(-1).sum() < 0.2 * flow[..., 0].size
    np.testing.assert_array_equal(np.isnan(flow[..., 0]), np.isnan(flow[..., 1]))


def test_validation_sees_the_middle_at_two_pixels_for_one(pictures):
    current, key, flow_px = pictures

    pair = plain_flow(current, key, np.full_like(flow_px, 5), FRAME)

    np.testing.assert_allclose(pair.flow_px, 5 * 2, rtol=1e-6)
    halved = cv2.resize(pair.current, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    middle = current[16:-16, 16:-16]
    assert np.abs(halved.astype(float) - middle).mean() < 2


def test_frames_are_inside_their_pictures_and_differ():
    rng = np.random.default_rng(0)
    height, width = FRAME
    corners = np.array([[0, 0], [width, 0], [0, height], [width, height]], float)
    middles = []
    for _ in range(200):
        for view in draw_views(rng, SIZE, FRAME):
            reached = corners @ view[:, :2].T + view[:, 2]
            assert (reached >= -1e-9).all()
            assert (reached <= (SIZE[1] + 1e-9, SIZE[0] + 1e-9)).all()
            middles.append(reached.mean(0))
    # The strong change moves both alike: the two middles of a pair are close, those of pairs not.
    apart = np.array(middles).reshape(200, 2, 2)
    assert np.abs(apart[:, 0] - apart[:, 1]).max() < 0.03 * width
    assert apart[:, 0].std(0).min() > 3


def test_a_picture_that_is_too_small_is_enlarged():
    views = draw_views(np.random.default_rng(1), (40, 50), FRAME)

    assert np.sqrt(np.linalg.det(views.current[:, :2])) < 40 / FRAME[0]


def test_colours_change_alike_but_for_the_noise(pictures):
    rng = np.random.default_rng(2)
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    quiet = draw_colours(rng)._replace(noise=0.0)

    np.testing.assert_array_equal(quiet.apply(rng, ramp), quiet.apply(rng, ramp))
    noisy = quiet._replace(noise=0.04)
    assert (noisy.apply(rng, ramp) != noisy.apply(rng, ramp)).any()


def test_colours_by_hand():
    grey = np.full((1, 1, 3), 204, np.uint8)  # 0.8
    change = Colours(
        contrast=-0.5, gamma=2.0, colour=np.array([1, 0.5, 2]), brightness=0.1, noise=0
    )

    # 0.5 + 0.3 / 2 = 0.65; squared 0.4225; times 1, 0.5, 2, plus 0.1
    expected = np.rint(255 * (0.4225 * np.array([1, 0.5, 2]) + 0.1))

    np.testing.assert_array_equal(change.apply(np.random.default_rng(0), grey)[0, 0], expected)


def test_same_draw_gives_the_same_pair(pictures):
    first, again, other = (
        augment_flow(np.random.default_rng(seed), *pictures, FRAME) for seed in (5, 5, 6)
    )

    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert (first.current != other.current).any()
