"""Motion of camera and things: bounds, derivatives, affine maps."""

import numpy as np
import pytest

from dff_edge.errors import ConfigError
from dff_edge.synthetic import MOTIONS, StreetScene
from dff_edge.synthetic.motion import (
    STEADY,
    Camera,
    Pace,
    compose,
    draw_camera,
    invert,
    oscillation,
)

ATOL = 1e-9  # float64, a few products of numbers below 1000
STILL = oscillation(np.random.default_rng(0), amplitude=0.0, speed=0.0)


def square(matrix):
    return np.vstack([matrix, [0, 0, 1]])


@pytest.mark.parametrize("terms", [1, 2, 3])
def test_oscillation_keeps_to_its_amplitude_and_speed(rng, terms):
    motion = oscillation(rng, amplitude=7.0, speed=0.5, terms=terms)

    values = np.array([motion.at(t) for t in np.arange(0, 3000, 0.5)])

    assert np.abs(values).max() <= 7.0
    assert np.abs(np.diff(values)).max() <= 0.5 * 0.5 + ATOL
    assert np.ptp(values) > 3.5  # it does move


def test_rate_is_the_derivative(rng):
    motion = oscillation(rng, amplitude=7.0, speed=0.5)

    for t in (0, 3.5, 40):
        numeric = (motion.at(t + 1e-4) - motion.at(t - 1e-4)) / 2e-4
        assert motion.rate_at(t) == pytest.approx(numeric, abs=1e-6)


def test_no_amplitude_is_no_motion(rng):
    motion = oscillation(rng, amplitude=0.0, speed=0.25)

    assert [motion.at(t) for t in range(5)] == [0.0] * 5


def test_compose_and_invert_are_matrix_product_and_inverse(rng):
    outer, inner = rng.uniform(-2, 2, (2, 2, 3))

    np.testing.assert_allclose(square(compose(outer, inner)), square(outer) @ square(inner))
    np.testing.assert_allclose(square(invert(outer)), np.linalg.inv(square(outer)))


def test_parallax_near_layers_move_more_than_far_ones(rng):
    camera = draw_camera(rng, 256, 512, horizon=128)

    def travel(depth):
        places = [camera.matrix(t, depth) @ (256, 128, 1) for t in range(50)]
        return np.ptp([x for x, _ in places])

    assert 3 * travel(0.05) < travel(0.6)
    assert 1.5 * travel(0.6) < travel(1.1)


def test_dolly_grows_about_the_vanishing_point(rng):
    grow = oscillation(rng, amplitude=0.16, speed=0.01)
    camera = Camera((40.0, 30.0), STILL, STILL, grow, STILL, STILL, STILL)

    matrix = camera.matrix(17, depth=0.5)

    factor = 1 + 0.5 * grow.at(17)
    np.testing.assert_allclose(matrix @ (40, 30, 1), (40, 30), atol=ATOL)
    np.testing.assert_allclose(matrix @ (50, 34, 1), (40 + 10 * factor, 30 + 4 * factor), atol=ATOL)


def test_roll_and_shake_are_the_same_at_every_depth(rng):
    roll, shake = (oscillation(rng, amplitude=a, speed=0.01) for a in (0.03, 1.5))
    camera = Camera((0.0, 0.0), STILL, STILL, STILL, roll, shake, STILL)

    far, near = camera.matrix(9, 0.0), camera.matrix(9, 1.0)

    np.testing.assert_allclose(far, near, atol=ATOL)
    angle = roll.at(9)
    expected = (np.cos(angle) * 10 + shake.at(9), np.sin(angle) * 10)
    np.testing.assert_allclose(far @ (10, 0, 1), expected, atol=ATOL)


def test_a_pace_stands_drives_and_turns_in_turns():
    pace = Pace((0.0, 0.5, 2.0), frames=10)

    assert [pace.speed_at(t) for t in (0, 9, 10, 19, 20, 29, 30)] == [0, 0, 0.5, 0.5, 2, 2, 0]
    assert [pace.time_at(t) for t in (0, 7, 10, 14, 20, 25, 30, 37, 44)] == [
        0, 0, 0, 2, 5, 15, 25, 25, 27,
    ]  # fmt: skip
    assert [STEADY.time_at(t) for t in range(100)] == list(range(100))


def test_a_camera_that_stands_only_shakes_and_objects_go_on():
    still, mixed = (StreetScene(4, "val", (64, 128), 90, motion) for motion in MOTIONS)
    speeds = mixed._camera.pace.speeds
    assert sorted(speeds) == [0, 0.4, 2.5]
    start = 30 * speeds.index(0)
    first, last = (mixed._camera.matrix(start + i, 0.6) for i in (0, 29))
    shakes = [mixed._camera.shake_x.at(start + i) for i in (0, 29)]
    np.testing.assert_allclose(first[:, :2], last[:, :2])
    assert last[0, 2] - first[0, 2] == pytest.approx(shakes[1] - shakes[0])
    assert mixed._camera.pan_rate_at(start + 5) == 0
    turning = 30 * speeds.index(2.5) + 5
    own = mixed._camera.pace.time_at(turning)
    assert mixed._camera.pan_rate_at(turning) == pytest.approx(2.5 * still._camera.pan.rate_at(own))
    moved = [
        surface
        for surface in mixed._surfaces
        if not np.allclose(surface.matrix(start), surface.matrix(start + 9), atol=3)
    ]
    assert moved
    assert all(surface.is_object for surface in moved)


def test_motion_does_not_change_what_is_in_the_street():
    one, other = (StreetScene(4, "val", (64, 128), 90, motion) for motion in MOTIONS)

    assert len(one._surfaces) == len(other._surfaces)
    for own, same in zip(one._surfaces, other._surfaces, strict=True):
        np.testing.assert_array_equal(own.texture, same.texture)
    with pytest.raises(ConfigError, match="motion is 'fast', expected steady or mixed"):
        StreetScene(4, motion="fast")
