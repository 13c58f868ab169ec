"""Key-frame policies: what they are shown of a frame, and how they are named."""

from __future__ import annotations

import threading
from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from dff_edge.errors import ConfigError
from dff_edge.runtime import policy as policies
from dff_edge.runtime.pipeline import Pipeline
from dff_edge.runtime.policy import (
    MEASURED_RESULTS,
    AsSoonAsIdle,
    FixedInterval,
    FrameContext,
    KeyFramePolicy,
    Measured,
    PolicyForm,
    parse_policy,
)
from tests.bundle.bundles import make_bundle
from tests.runtime.policies import Recorder, context, frame


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return make_bundle(tmp_path_factory.mktemp("bundle") / "b")


def test_distances_are_from_the_key_frame_in_captured_frames_and_seconds(bundle):
    recorder = Recorder(6)
    frames = [frame(0, 0.5), frame(2, 1.0), frame(6, 2.25), frame(7, 2.5), frame(9, 4.0)]
    with Pipeline.open(bundle, policy=recorder, threads=1, depth=1) as pipeline:
        results = list(pipeline.run(frames))

    assert [result.key_index for result in results] == [0, 0, 6, 6, 6]
    assert [(c.frame.index, c.distance, c.distance_s) for c in recorder.seen] == [
        (2, 2, 0.5),
        (6, 6, 1.75),
        (7, 1, 0.25),
        (9, 3, 1.75),
    ]
    assert all(own.frame is given for own, given in zip(recorder.seen, frames[1:], strict=True))


def test_frames_without_a_key_frame_to_propagate_from_are_not_asked_about(bundle):
    recorder = Recorder()
    with Pipeline.open(bundle, policy=recorder, threads=1, depth=1) as pipeline:
        list(pipeline.run([frame(0, 0.0), frame(1, 0.1), frame(2, 0.2, segment=1)]))

    assert [c.frame.index for c in recorder.seen] == [1]


def test_earlier_results_are_shown_with_their_times_newest_last(bundle):
    recorder = Recorder(5)
    with Pipeline.open(bundle, policy=recorder, threads=1, depth=1) as pipeline:
        results = list(pipeline.run(frame(i, i / 30) for i in range(12)))
        again = len(recorder.seen)
        list(pipeline.run([frame(0, 0.0), frame(1, 0.1)]))

    for shown in recorder.seen[:again]:
        before = results[: shown.frame.index][-MEASURED_RESULTS:]
        assert shown.measured == tuple(
            Measured(r.frame.index, r.key_index, r.latency_s, r.age_s, r.stage_ms) for r in before
        )
    assert set(recorder.seen[again - 1].measured[-1].stage_ms) >= {"flow", "task"}
    assert [own.index for own in recorder.seen[again].measured] == [0]  # of the new run alone


def test_only_results_that_were_handed_out_are_shown(bundle):
    recorder = Recorder()
    with Pipeline.open(bundle, policy=recorder, threads=1, depth=3) as pipeline:
        list(pipeline.run(frame(i, i / 30) for i in range(6)))

    shown = [[own.index for own in seen.measured] for seen in recorder.seen]
    assert shown == [[], [], [0], [0, 1], [0, 1, 2]]


def test_a_feature_network_at_work_is_not_idle(bundle, monkeypatch):
    recorder = Recorder()
    may_go_on = threading.Event()
    with Pipeline.open(bundle, policy=recorder, threads=1, depth=3) as pipeline:
        engine = pipeline._opened.subnets.feature
        compute = engine.run

        def wait(inputs: Any, outputs: Any) -> None:
            assert may_go_on.wait(30)
            compute(inputs, outputs)

        monkeypatch.setattr(engine, "run", wait)
        pipeline.submit(frame(0, 0.0))
        pipeline.submit(frame(1, 0.1))
        may_go_on.set()
        assert pipeline.poll(block=True) is not None
        pipeline.submit(frame(2, 0.2))

    assert [seen.is_feature_idle for seen in recorder.seen] == [False, True]


@pytest.mark.parametrize("lag", [1, 3])
def test_after_a_lag_the_feature_network_is_idle_alike_on_every_machine(bundle, monkeypatch, lag):
    recorder = Recorder(1)
    may_go_on = threading.Event()
    with Pipeline.open(bundle, policy=recorder, threads=1, depth=8, keys=f"lag:{lag}") as pipeline:
        engine = pipeline._opened.subnets.feature
        compute = engine.run

        def wait(inputs: Any, outputs: Any) -> None:
            assert may_go_on.wait(30)
            compute(inputs, outputs)

        monkeypatch.setattr(engine, "run", wait)
        for index in range(6):
            pipeline.submit(frame(index, index / 8))
        may_go_on.set()

    asked = [1, *range(1 + lag, 6)]  # not while key frame 1 is pending
    assert [(seen.frame.index, seen.is_feature_idle) for seen in recorder.seen] == [
        (index, True) for index in asked
    ]


def test_idle_takes_a_key_frame_when_the_feature_network_is_idle():
    asked = [context(5, is_feature_idle=idle) for idle in (True, False)]

    assert [AsSoonAsIdle().is_key(seen) for seen in asked] == [True, False]
    assert AsSoonAsIdle().interval is None


def test_what_a_policy_is_shown_does_not_change():
    with pytest.raises(FrozenInstanceError):
        context(1).distance = 2  # type: ignore[misc]


def test_fixed_interval_is_the_distance_compared_with_l():
    policy = FixedInterval(3)

    assert [policy.is_key(context(distance)) for distance in (1, 2, 3, 4)] == [
        False, False, True, True,
    ]  # fmt: skip
    assert (policy.interval, str(policy)) == (3, "fixed:3")


@pytest.mark.parametrize("text", ["fixed:1", "fixed:10", "fixed:250", "idle"])
def test_a_policy_is_named_as_it_is_parsed(text):
    assert str(parse_policy(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "fixed",
        "fixed:",
        "fixed:x",
        "fixed:-3",
        "fixed:²",
        "fixed:1.5",
        "10",
        "adapt",
        "idle:",
    ]
    + ["fixed:", "idle:2"],
)
def test_unknown_policies_are_refused_with_the_forms_that_there_are(text):
    with pytest.raises(ConfigError, match=f"policy is '{text}', expected fixed:l with a whole"):
        parse_policy(text)


def test_a_policy_is_one_class_and_one_row(bundle, monkeypatch):
    """Key frames by the clock, as somebody would add them."""

    class EverySeconds(KeyFramePolicy):
        def __init__(self, seconds: float) -> None:
            self.seconds = seconds

        def is_key(self, context: FrameContext) -> bool:
            return context.distance_s >= self.seconds

    row = PolicyForm("every:s with seconds s", lambda value: EverySeconds(float(value)))
    monkeypatch.setitem(policies.POLICIES, "every", row)

    with pytest.raises(
        ConfigError, match="as in fixed:10, or idle, or .*, or every:s with seconds s"
    ):
        parse_policy("every:soon")
    assert parse_policy("every:1").interval is None
    with Pipeline.open(bundle, policy="every:0.25", threads=1) as pipeline:
        results = list(pipeline.run(frame(i, i / 8) for i in range(5)))
    assert [result.key_index for result in results] == [0, 0, 2, 2, 4]
