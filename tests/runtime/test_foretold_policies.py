"""Policies that go by what is foretold: limits, bounds, cuts, and the best mean."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from dff_edge.errors import ConfigError, PipelineError
from dff_edge.frames import Frame
from dff_edge.runtime.keys import BACKGROUND, parse_keys
from dff_edge.runtime.pipeline import Pipeline
from dff_edge.runtime.policy import (
    Adaptive,
    FrameContext,
    Measured,
    Saving,
    parse_policy,
)
from tests.bundle.bundles import make_bundle
from tests.bundle.staleness_models import with_staleness
from tests.runtime.policies import Recorder, context, frame


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return make_bundle(tmp_path_factory.mktemp("bundle") / "b")


@pytest.fixture(scope="module")
def foretelling(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return with_staleness(make_bundle(tmp_path_factory.mktemp("staleness") / "b"), bias=-6.0)


def stale(expected: float | None, distance: int = 5, **changes: Any) -> FrameContext:
    """A frame whose answer is expected to be stale by so much."""
    return replace(context(distance), expected_disagreement=expected, **changes)


def test_adaptive_takes_a_key_frame_when_the_answer_would_be_too_stale():
    policy = Adaptive(0.05)

    asked = [stale(expected) for expected in (None, 0.0, 0.05, 0.0501, 1.0)]
    assert [policy.is_key(seen) for seen in asked] == [False, False, False, True, True]


def test_bounds_of_the_distance_go_first():
    policy = Adaptive(0.05, 3, 6)

    assert [policy.is_key(stale(1.0, d)) for d in (1, 2, 3)] == [False, False, True]
    assert [policy.is_key(stale(0.0, d)) for d in (5, 6, 7)] == [False, True, True]
    # Features that will come two frames late are begun two frames earlier.
    late = [policy.is_key(stale(0.0, d, keys=parse_keys("lag:2"), lag=2)) for d in (3, 4, 5)]
    assert late == [False, True, True]
    assert policy.interval == 6


def test_in_the_background_features_wait_for_those_at_work_and_in_order_they_do_not():
    busy = {"is_feature_idle": False}

    assert not Adaptive(0.05).is_key(stale(1.0, keys=BACKGROUND, **busy))
    assert Adaptive(0.05).is_key(stale(1.0, keys=BACKGROUND))
    assert Adaptive(0.05).is_key(stale(1.0, **busy))  # else it would depend on the machine


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("adaptive:0.05", "adaptive:0.05,2..30"),
        ("adaptive:.2", "adaptive:0.2,2..30"),
        ("adaptive:0.05,1..200", "adaptive:0.05,1..200"),
    ],
)
def test_adaptive_is_named_with_its_bounds(text, named):
    assert str(parse_policy(text)) == named
    assert str(parse_policy(named)) == named


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("adaptive", "expected fixed:l .* or adaptive:share"),
        ("adaptive:", "expected fixed:l .* or adaptive:share"),
        ("adaptive:nan", "expected fixed:l .* or adaptive:share"),
        ("adaptive:0.05,3", "expected fixed:l .* or adaptive:share"),
        ("adaptive:0.05,2..x", "expected fixed:l .* or adaptive:share"),
        ("adaptive:0", "threshold of adaptive key frames is 0.0, expected"),
        ("adaptive:1.0", "threshold of adaptive key frames is 1.0, expected"),
        ("adaptive:5", "threshold of adaptive key frames is 5.0, expected"),
        ("adaptive:0.05,0..30", "bounds of adaptive key frames are 0..30, expected"),
        ("adaptive:0.05,9..8", "bounds of adaptive key frames are 9..8, expected"),
        ("adaptive:0.05,2..1001", "bounds of adaptive key frames are 2..1001, expected"),
    ],
)
def test_adaptive_that_cannot_be_is_refused(text, message):
    with pytest.raises(ConfigError, match=message):
        parse_policy(text)


@pytest.mark.parametrize("policy", ["adaptive:0.05", "saving:0.3"])
def test_what_is_foretold_needs_a_model_of_staleness(bundle, policy):
    with pytest.raises(ConfigError, match=r"no model of how stale .* `dff-edge calibrate"):
        Pipeline.open(bundle, policy=policy, threads=1)


def interval_of(
    policy: Saving, disagreement: Callable[[int], float], first: int = 0, lag: int = 0
) -> int:
    """Frames until a policy takes the next key frame, all expected disagreement known.

    The first key frame's features are used ``lag`` frames after it.
    """
    told = []
    for distance in range(lag, 1000):
        seen = stale(disagreement(distance + lag), distance, measured=tuple(told[-8:]))
        if distance and policy.is_key(replace(seen, frame=frame(first + distance, 0.0))):
            return distance
        told.append(Measured(first + distance, first, 0.0, None, {}, disagreement(distance)))
    raise AssertionError("no key frame")


@pytest.mark.parametrize("answers", [0.05, 0.3, 1.0])
@pytest.mark.parametrize("growth", [0.5, 1.0, 1.5])
@pytest.mark.parametrize("rate", [0.004, 0.02])
def test_saving_has_the_least_mean_cost_of_a_steady_motion(answers, growth, rate):
    def disagreement(distance: int) -> float:
        return rate * distance**growth if distance else 0.0

    def cost(interval: int) -> float:
        return (answers + sum(map(disagreement, range(interval)))) / interval

    found = interval_of(Saving(answers, 1, 1000), disagreement)
    assert cost(found) == pytest.approx(min(map(cost, range(1, 1000))))


@pytest.mark.parametrize(("answers", "lag"), [(1.0, 5), (0.3, 10), (4.0, 3)])
def test_saving_counts_the_frames_that_older_features_will_answer_yet(answers, lag):
    def cost(interval: int) -> float:
        answered = range(lag, lag + interval)
        return (answers + sum(0.02 * distance for distance in answered)) / interval

    found = interval_of(Saving(answers, 1, 1000), lambda d: 0.02 * d, lag=lag)
    best = min(range(lag + 1, 1000), key=cost)  # when an answer from the features is there
    assert found == best


def test_saving_has_seen_all_frames_where_the_least_distance_is_long():
    def disagreement(distance: int) -> float:
        return min(0.02 * distance, 0.16)  # flat from the eighth frame on

    first = 0.16 * 8 - sum(map(disagreement, range(8)))  # what all the later ones have saved

    assert interval_of(Saving(first - 0.01, 12, 40), disagreement) == 12
    assert interval_of(Saving(first + 0.01, 12, 40), disagreement) == 40


def test_fast_motion_has_key_frames_sooner_but_not_as_much_as_a_threshold_would():
    slow, fast = (
        interval_of(Saving(0.5, 1, 1000), lambda d, rate=rate: rate * d) for rate in (0.001, 0.016)
    )
    # Of d = r t the best interval is the root of 2 C / r; a threshold would take it as 1 / r.
    assert (slow, fast) == (32, 8)


def test_answers_that_stay_uncertain_are_worth_a_key_frame_by_that_alone():
    def uncertain(distance: int) -> float:
        return 0.5 if distance else 0.0

    assert interval_of(Saving(0.6, 1, 50), uncertain) == 50
    assert interval_of(Saving(0.4, 1, 50), uncertain) == 1


def test_saving_forgets_another_source():
    policy = Saving(0.5, 1, 1000)
    alone = interval_of(policy, lambda d: 0.01 * d)

    for first in (0, 7, 7):
        interval_of(policy, lambda d: 0.0001 * d, first)
        assert interval_of(policy, lambda d: 0.01 * d, first) == alone


def test_saving_within_its_bounds_and_in_its_words():
    assert interval_of(Saving(0.01, 4, 9), lambda d: 0.1 * d) == 4
    assert interval_of(Saving(0.01, 4, 9), lambda _: 0.0) == 9
    assert str(parse_policy("saving:.3")) == "saving:0.3,2..30"
    assert parse_policy("saving:2,1..40").interval == 40
    with pytest.raises(ConfigError, match="has to save is 0.0, expected a number of wholly wrong"):
        parse_policy("saving:0")
    with pytest.raises(ConfigError, match="bounds of saving key frames are 9..8, expected"):
        parse_policy("saving:0.3,9..8")


@pytest.mark.parametrize("keys", ["in-order", "lag:2"])
def test_a_pipeline_saves_by_what_its_results_tell(foretelling, keys):
    answers, lag = 0.004, 2 * (keys == "lag:2")
    policy = Saving(answers, 2, 12)
    policy.is_cut = lambda _: False  # each frame is another scene
    with Pipeline.open(foretelling, policy=policy, threads=1, depth=1, keys=keys) as pipeline:
        results = list(pipeline.run(textured(index) for index in range(24)))

    wanted, key = [0], 0
    told = {result.frame.index: result for result in results}
    for index in range(1, 24):
        if index < key + lag or index - key < 2:
            continue
        own = [told[i].expected_disagreement for i in range(index) if told[i].key_index == key]
        latest = max(i for i in range(index) if told[i].key_index != i)
        before, ahead = latest - told[latest].key_index, index - key + lag
        foretold = told[latest].expected_disagreement * (ahead / before) ** 0.5
        unseen = index - key - len(own)
        between = unseen * (foretold + own[-1]) / 2 if own else np.inf
        saved = (index - key) * foretold - sum(own) - between
        if saved > answers or ahead >= 12:
            wanted.append(index)
            key = index
    assert len(wanted) > 3
    used = sorted({result.key_index for result in results})
    assert used == [index for index in wanted if index + lag < 24]


def test_what_is_expected_of_a_frame_follows_from_the_latest_propagated_result(foretelling):
    recorder = Recorder(4)
    with Pipeline.open(foretelling, policy=recorder, threads=1, depth=1) as pipeline:
        results = list(pipeline.run(textured(index) for index in range(8)))

    told = [result.expected_disagreement for result in results]
    assert [told[0], told[4]] == [0.0, 0.0]
    assert all(0 < value < 1 for i, value in enumerate(told) if i % 4)
    # growth 0.5: by the root of the ratio of distances; key frames tell nothing of the motion.
    expected = [
        None,
        told[1] * (2 / 1) ** 0.5,
        told[2] * (3 / 2) ** 0.5,
        told[3] * (4 / 3) ** 0.5,
        told[3] * (1 / 3) ** 0.5,
        told[5] * (2 / 1) ** 0.5,
        told[6] * (3 / 2) ** 0.5,
    ]
    assert [seen.expected_disagreement for seen in recorder.seen] == [
        None if value is None else pytest.approx(value) for value in expected
    ]


def test_with_a_lag_the_last_frame_of_the_older_features_is_foretold(foretelling):
    recorder = Recorder(3)
    how = {"policy": recorder, "threads": 1, "depth": 1, "keys": "lag:3"}
    with Pipeline.open(foretelling, **how) as pipeline:
        results = list(pipeline.run(textured(index) for index in range(9)))

    told = {result.frame.index: result.expected_disagreement for result in results}
    seen = {own.frame.index: own for own in recorder.seen}
    assert sorted(seen) == [1, 2, 3, 6, 7, 8]  # 4 and 5 pending
    assert {own.lag for own in recorder.seen} == {3}
    assert seen[3].expected_disagreement == pytest.approx(told[2] * (6 / 2) ** 0.5)
    assert seen[7].expected_disagreement == pytest.approx(told[6] * (7 / 3) ** 0.5)


def test_a_cut_waits_for_its_own_features_in_every_mode(foretelling):
    for keys in ("in-order", "lag:3", "background"):
        how = {"policy": "adaptive:0.9,2..30", "threads": 1, "depth": 1, "keys": keys}
        with Pipeline.open(foretelling, **how) as pipeline:
            shades = [0, 0, 0, 255, 255, 255]
            results = list(
                pipeline.run(
                    Frame(np.full((40, 60, 3), v, np.uint8), i, i / 30)
                    for i, v in enumerate(shades)
                )
            )
        assert [result.key_index for result in results] == [0, 0, 0, 3, 3, 3]


def test_a_cut_is_not_lost_with_a_frame_that_was_refused(foretelling):
    black, white = (np.full((40, 60, 3), level, np.uint8) for level in (0, 255))
    with Pipeline.open(foretelling, policy="adaptive:0.9", threads=1, depth=2) as pipeline:
        for index in range(2):
            pipeline.submit(Frame(black, index, 0.0))
        with pytest.raises(PipelineError, match="in flight"):
            pipeline.submit(Frame(white, 2, 0.0))
        for _ in range(2):
            pipeline.poll(block=True)
        pipeline.submit(Frame(white, 2, 0.0))
        result = pipeline.poll(block=True)
    assert result is not None
    assert result.is_key


def textured(index: int) -> Frame:
    """Blocks that change from frame to frame."""
    small = np.random.default_rng(index).integers(0, 256, (5, 8, 3), np.uint8)
    return Frame(np.kron(small, np.ones((8, 8, 1), np.uint8)), index, index / 30)
