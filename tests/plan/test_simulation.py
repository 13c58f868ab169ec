"""The simulated camera and pipeline against timelines made by hand."""

from collections import Counter

import pytest

from dff_edge.errors import ConfigError
from dff_edge.plan.simulation import Service, Times, percentile, simulate

MS = 1e-3


def same(seconds):
    """Return a service that is over when its result is ready."""
    return [Service(seconds, seconds)]


def run(times, interval, frames, *, rate=10.0, background=False, streams=1):
    return simulate(
        times, interval, background=background, rate=rate, frames=frames, streams=streams
    )


def ages_ms(forecast):
    return [pytest.approx(1e3 * age) for age in forecast.ages_s]


def test_a_pipeline_in_time_answers_every_frame_after_pickup_and_service():
    times = Times(pickup_s=[2 * MS], key=same(10 * MS), other=same(5 * MS))
    forecast = run(times, 2, 5)
    assert ages_ms(forecast) == [7, 12, 7, 12]  # from frame 1 on
    assert forecast.captured == 4
    assert forecast.answered_share == 1
    assert forecast.fps == 10
    assert forecast.shown == {(0, 0): 2, (1, 0): 2}
    # 5, 10, 5 and 10 ms of the 310 from the begin of frame 1 to the end of frame 4.
    assert forecast.busy_share == pytest.approx(30 / 310)
    assert forecast.key_frames == 3
    assert forecast.staleness == pytest.approx(2 / 4)


def test_a_slow_pipeline_takes_the_newest_frame_and_the_others_keep_an_answer():
    # Begins at 0, 150, 300 ms on frames 0, 1, 3: each second time a frame has waited 50 ms.
    times = Times(pickup_s=[0.0], key=same(150 * MS), other=same(1.0))
    forecast = run(times, 1, 7)
    assert ages_ms(forecast) == [200, 150, 200, 150]  # frames 1, 3, 4, 6
    assert forecast.shown == {(0, 0): 4, (0, 1): 2}  # frames 2 and 5 keep the answers to 1 and 4
    assert forecast.fps == pytest.approx(10 * 4 / 6)
    assert forecast.staleness == pytest.approx(2 / 6)


def test_distance_is_counted_in_captured_frames_and_a_key_frame_in_order_is_waited_for():
    # Frame 0 takes until 250; frame 2 until 270; frame 3 is due as a key frame, until 550; frame 5,
    # two frames from it, waits from 500 to 550; frame 6 is a key frame again.
    times = Times(pickup_s=[0.0], key=same(250 * MS), other=same(20 * MS))
    forecast = run(times, 3, 9)
    assert ages_ms(forecast) == [70, 250, 70, 250, 70]  # frames 2, 3, 5, 6, 8
    assert forecast.shown == {(0, 0): 2, (0, 1): 2, (2, 0): 3}
    assert forecast.key_frames == 3


def test_in_the_background_frames_are_answered_from_the_older_key_frame():
    # Frame 0 waits for its own features until 300, when frame 3 is the newest. Its features are
    # there at 550, so frame 6 uses them and begins its own, which are there at 850.
    times = Times([0.0], same(300 * MS), same(20 * MS), same(30 * MS), same(40 * MS), [250 * MS])
    forecast = run(times, None, 10, background=True)
    assert ages_ms(forecast) == [40, 30, 30, 40, 30, 30, 40]  # from frame 3 on
    assert forecast.shown == Counter([(distance, 0) for distance in (3, 4, 5, 3, 4, 5, 3)])
    assert forecast.answered_share == 1
    assert forecast.key_frames == 3


def test_a_fixed_interval_in_the_background_leaves_the_network_idle_between():
    # Features of frame 5 are begun at 500 and used from frame 8 on, those of frame 10 from 13.
    times = Times([0.0], same(300 * MS), same(20 * MS), same(30 * MS), same(40 * MS), [250 * MS])
    forecast = run(times, 5, 14, background=True)
    # Frames                     3   4   5   6   7   8   9   10  11  12  13
    assert ages_ms(forecast) == [20, 20, 40, 30, 30, 20, 20, 40, 30, 30, 20]
    assert forecast.shown == Counter([(d, 0) for d in (3, 4, 5, 6, 7, 3, 4, 5, 6, 7, 3)])


def test_a_pipeline_that_is_busy_after_its_result_accepts_the_next_frame_later():
    times = Times(pickup_s=[0.0], key=[Service(20 * MS, 120 * MS)], other=same(1.0))
    forecast = run(times, 1, 4)
    assert ages_ms(forecast) == [40, 60, 80]


def test_cameras_share_one_pipeline_in_turn():
    # Captures at 0, 50, 100, ... of two cameras; each service takes 80 ms.
    times = Times(pickup_s=[0.0], key=same(80 * MS), other=same(1.0))
    forecast = run(times, 1, 100, streams=2)
    assert forecast.captured == pytest.approx(200, abs=6)
    assert forecast.answered_share == pytest.approx(50 / 80, abs=0.02)
    assert forecast.fps == pytest.approx(10 * 50 / 80, abs=0.2)


def test_cameras_get_equal_shares():
    times = Times(pickup_s=[0.0], key=same(95 * MS), other=same(1.0))
    alone, both = run(times, 1, 200), run(times, 1, 200, streams=2)
    assert alone.answered_share == 1
    assert both.answered_share == pytest.approx(100 / 190, abs=0.01)
    assert alone.busy_share == pytest.approx(0.95, abs=0.01)
    assert both.busy_share == pytest.approx(1, abs=0.01)
    assert both.age_s(95) < 0.3  # a capture's time, the other's turn, and its own


def test_the_short_path_of_several_cameras_is_busier_than_each_pipeline():
    times = Times(pickup_s=[0.0], key=same(24 * MS), other=same(24 * MS))
    forecast = run(times, 10**6, 500, streams=4)  # one after the other: nobody waits
    assert forecast.age_s(99) == pytest.approx(24 * MS)
    assert forecast.busy_share == pytest.approx(4 * 24 / 100, abs=0.01)


def test_a_key_frame_in_order_is_put_off_while_another_cameras_is_computed():
    # Captures at 0, 100, ... and at 50, 150, ...; a key frame takes 120 ms, another 10. The second
    # camera's frame 0 waits for the network from 50 to 120, until 240. Frame 2 of the first is due
    # as a key frame at 200 and put off; frame 3 is one, from 300 to 420. The second's is due at
    # 250, when it is the first's turn, and at 350; frame 4 is one, from 450 to 570.
    times = Times(pickup_s=[0.0], key=same(120 * MS), other=same(10 * MS))
    forecast = run(times, 2, 5, streams=2)
    assert ages_ms(forecast) == [30, 10, 120, 30, 100, 10, 10, 120]  # frames 1 to 4 of each
    assert forecast.shown == Counter([(d, 0) for d in (1, 2, 0, 1, 1, 2, 3, 0)])


def test_key_frames_of_cameras_in_the_background_take_turns():
    times = Times([0.0], same(10 * MS), same(1 * MS), same(1 * MS), same(1 * MS), [150 * MS])
    one, two = (run(times, None, 200, background=True, streams=n) for n in (1, 2))
    assert (one.distance(50), one.distance(100)) == (2, 3)  # a key frame every 200 ms
    # Each begins when the other's are done: every 300 to 500 ms, used 200 ms later.
    assert 2 < two.distance(50) <= 4
    assert 5 <= two.distance(100) <= 6
    assert two.key_frames <= one.key_frames * 400 / 300


def test_times_are_drawn_as_often_as_they_were_measured():
    slow = [*same(5 * MS)] * 9 + same(50 * MS)
    forecast = run(Times([0.0], same(5 * MS), slow), 10**6, 5000)
    assert forecast.age_s(50) == pytest.approx(5 * MS)
    assert (forecast.ages_s > 20 * MS).mean() == pytest.approx(0.1, abs=0.015)
    again = run(Times([0.0], same(5 * MS), slow), 10**6, 5000)
    assert (again.ages_s == forecast.ages_s).all()


def test_percentiles_are_ages_that_occurred():
    times = Times(pickup_s=[0.0], key=same(33 * MS), other=same(10 * MS))
    forecast = run(times, 2, 101)  # 100 answers, half of them key frames
    assert ages_ms(forecast) == [10, 33] * 50
    assert forecast.age_s(50) == pytest.approx(10 * MS)
    assert forecast.age_s(51) == pytest.approx(33 * MS)
    assert percentile([3, 1, 2, 4], 25) == 1
    assert percentile([3, 1, 2, 4], 26) == 2
    assert percentile([3, 1, 2, 4], 100) == 4


@pytest.mark.parametrize(
    ("interval", "background", "changes", "message"),
    [
        (None, False, {}, "'idle' needs key frames in the background"),
        (1, False, {"rate": 0.0}, "rate above 0"),
        (1, False, {"frames": 1}, "at least one with two frames"),
        (1, False, {"streams": 0}, "at least one with two frames"),
        (2, False, {}, "no time of 'other' was measured"),
        (None, True, {}, "no time of 'other' was measured|no time of 'begins' was measured"),
    ],
)
def test_what_cannot_be_simulated_is_refused(interval, background, changes, message):
    how = {"rate": 10.0, "frames": 5} | changes
    with pytest.raises(ConfigError, match=message):
        simulate(Times([0.0], same(0.01)), interval, background=background, **how)
