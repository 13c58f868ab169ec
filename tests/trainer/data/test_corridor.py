"""A camera that drives through a box: hand-made numbers, and that what it sees is found again."""

import numpy as np

from dff_edge.trainer.data.corridor import HOME, Corridor, Pose, draw_drive

PICTURE = (150, 240)
# 100 px of focal length; ground 2 m below the camera, walls 4 m beside it, an end 50 m ahead.
STREET = Corridor(
    100.0, np.array([120.0, 60.0]), np.array([-4.0, -20.0, -np.inf]), np.array([4.0, 2.0, 50.0])
)
FIVE_AHEAD = Pose(np.eye(3), np.array([0.0, 0.0, 5.0]))


def test_what_is_near_moves_more_than_what_is_far():
    ground, wall, end = [120.0, 80.0], [160.0, 60.0], [124.0, 60.0]
    places = np.array([ground, wall, end])

    points = STREET.seen(places, HOME)

    np.testing.assert_allclose(points, [[0, 2, 10], [4, 0, 10], [2, 0, 50]])
    # 10 m away becomes 5 m, 50 m becomes 45 m.
    expected = [[120, 100], [200, 60], [120 + 100 * 2 / 45, 60]]
    np.testing.assert_allclose(STREET.drawn(points, FIVE_AHEAD), expected)


def test_a_camera_that_turns_to_the_right_sees_everything_move_left():
    yaw = 0.1
    turned = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])

    drawn = STREET.drawn(np.array([[0.0, 0.0, 50.0]]), Pose(turned, np.zeros(3)))

    np.testing.assert_allclose(drawn, [[120 - 100 * np.tan(yaw), 60]])


def test_what_is_behind_the_camera_is_in_no_picture():
    drawn = STREET.drawn(np.array([[0.0, 2.0, 4.0], [4.0, 0.0, 5.05]]), FIVE_AHEAD)

    assert (drawn < 0).all()


def test_drawn_finds_again_what_is_seen():
    places = np.stack(np.meshgrid(np.arange(0.5, 240, 7), np.arange(0.5, 150, 7)), axis=-1)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        corridor, *poses = draw_drive(rng, picture_size=PICTURE, distance=30)
        for pose in poses:
            points = corridor.seen(places, pose)
            np.testing.assert_allclose(corridor.drawn(points, pose), places, atol=1e-6)
            assert (points >= corridor.low - 1e-6).all()
            assert (points <= corridor.high + 1e-6).all()


def test_a_drive_grows_with_the_distance_and_stays_before_the_end():
    def mean_way(distance):
        drives = [
            draw_drive(np.random.default_rng(seed), picture_size=PICTURE, distance=distance)
            for seed in range(100)
        ]
        for corridor, key, current in drives:
            assert key.position[2] <= 0 <= current.position[2] < corridor.high[2] / 2 + 1e-9
        return np.mean([drive.current.position[2] - drive.key.position[2] for drive in drives])

    assert mean_way(0) == 0
    assert 7 < mean_way(20) / mean_way(2) <= 10  # less than tenfold: short corridors end
