"""Key frames in the background: against a reference, step by step, and when it goes wrong."""

import os
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dff_edge.errors import ConfigError, PipelineError
from dff_edge.frames import Frame
from dff_edge.runtime.devices.cpu import CpuDevice
from dff_edge.runtime.keys import BACKGROUND, IN_ORDER, KeyMode, parse_keys
from dff_edge.runtime.scheduler import Scheduler
from dff_edge.runtime.trace import Trace
from tests.runtime.lagged import Shot, lagged
from tests.runtime.test_scheduler import TIMEOUT_S, make_subnets

# Of `make_subnets`: features are the mean of the key frame, flow is zero, and the scale is the
# frame's mean over the key frame's, so that the answer is the frame's own value, whatever the key.
# Here the answer has to tell the key frame: features are a number of their own for each value.


def telling_subnets():
    """Scores of class 1 are the key frame's value plus a hundredth of the frame's."""
    subnets = make_subnets()

    def flow_net(inputs, outputs):
        outputs["flow"][:] = 0
        outputs["scale"][:] = 1 + inputs["frame_half"].mean() / 1000 / inputs["key_half"].mean()

    subnets.flow._compute = flow_net
    for engine in subnets.engines:
        engine.started = [threading.Event() for _ in range(200)]
        engine.released = [threading.Event() for _ in range(200)]
        for event in engine.released:
            event.set()
    return subnets


class Score:
    """Decodes to the score itself, so that which features answered can be seen."""

    def decode(self, outputs, size):
        from dff_edge.runtime.tasks.decoders import Answer

        return Answer(labels=np.full((1, 1), outputs["scores"][0, 0, 0, 1], np.float32))


def score(features, key_value, value):
    scale = np.float32(1 + value / 1000 / key_value) if value is not None else np.float32(1)
    return np.float32(features) * scale


def frame_of(value, index, segment=0):
    return Frame(np.full((32, 64, 3), value, np.uint8), index, index / 10, segment=segment)


@pytest.fixture
def subnets():
    return telling_subnets()


@pytest.fixture
def opened(subnets):
    """Makes schedulers that are closed at the end, with everything released."""
    made = []

    def scheduler(keys, *, depth=2, **how):
        made.append(Scheduler(CpuDevice(), subnets, Score(), depth=depth, keys=keys, **how))
        return made[-1]

    yield scheduler
    for engine in subnets.engines:
        for event in engine.released:
            event.set()
    for one in made:
        one.close()


def value_of(result):
    return float(result.labels[0, 0])


def is_from(result, key_value, value):
    """Whether a result is what a frame of ``value`` gives from a key frame of ``key_value``."""
    is_own = result.key_index == result.frame.index
    return value_of(result) == pytest.approx(
        float(score(key_value, key_value, None if is_own else value)), rel=1e-5
    )


@st.composite
def runs(draw):
    count = draw(st.integers(1, 25))
    gaps = draw(st.lists(st.sampled_from([1, 1, 1, 2, 5]), min_size=count, max_size=count))
    cuts = draw(st.lists(st.sampled_from([False] * 6 + [True]), min_size=count, max_size=count))
    values = draw(st.lists(st.integers(1, 255), min_size=count, max_size=count))
    shots, index = [], -1
    for gap, cut, value in zip(gaps, cuts, values, strict=True):
        index += gap
        shots.append(Shot(index, value, cut))
    wishes = draw(st.lists(st.booleans(), min_size=count, max_size=count))
    return shots, wishes


@given(runs(), st.integers(0, 7), st.integers(1, 4))
@settings(max_examples=120, deadline=None)
def test_lag_equals_the_reference(run, lag, depth):
    """Any wishes for key frames, gaps and cuts; who wishes is asked for the same frames."""
    shots, wishes = run
    asked = iter(wishes)
    expected = lagged(
        shots,
        lag,
        lambda distance: next(asked),
        float,
        lambda features, key, value: (features, value),
    )
    scheduler = Scheduler(CpuDevice(), telling_subnets(), Score(), depth=depth, keys=KeyMode(lag))
    results, asked = [], iter(wishes)
    try:
        for shot in shots:
            if scheduler.is_full:
                results.append(scheduler.collect())
            scheduler.take_up(shot.index)
            is_cut = scheduler.key_index is None or shot.is_cut
            is_key = is_cut or (not scheduler.is_key_pending and next(asked))
            scheduler.submit(frame_of(shot.value, shot.index), is_key=is_key, is_cut=is_cut)
        while scheduler.in_flight:
            results.append(scheduler.collect())
    finally:
        scheduler.close()
    assert [result.key_index for result in results] == [key for key, _ in expected]
    for result, (_, (features, value)) in zip(results, expected, strict=True):
        assert is_from(result, features, value)


def in_background(opened, depth=1, **how):
    """A scheduler with key frame 0 of value 50 done, its frame collected."""
    scheduler = opened(BACKGROUND, depth=depth, **how)
    scheduler.submit(frame_of(50, 0), is_key=True)
    assert is_from(scheduler.collect(), 50, 50)
    return scheduler


def one(scheduler, value, index, **how):
    scheduler.submit(frame_of(value, index), **{"is_key": False, **how})
    return scheduler.collect()


def test_frames_are_answered_from_the_older_key_frame_until_the_new_one_is_ready(opened, subnets):
    scheduler = in_background(opened)
    subnets.feature.hold(1)

    held = [one(scheduler, 100, 1, is_key=True), one(scheduler, 110, 2), one(scheduler, 120, 3)]
    assert scheduler.is_key_pending
    assert [(r.key_index, r.key_distance) for r in held] == [(0, 1), (0, 2), (0, 3)]
    assert all(is_from(r, 50, v) for r, v in zip(held, (100, 110, 120), strict=True))

    subnets.feature.released[1].set()
    scheduler._streams.feature.synchronize()
    taken = one(scheduler, 130, 4)
    assert not scheduler.is_key_pending
    assert (taken.key_index, taken.key_distance) == (1, 3)
    assert taken.key_age_s == pytest.approx(0.3)
    assert is_from(taken, 100, 130)


def test_features_are_told_with_the_first_result_that_uses_them(opened, subnets):
    trace = Trace()
    scheduler = in_background(opened, trace=trace)
    subnets.feature.hold(1)
    results = [one(scheduler, 100, 1, is_key=True)]
    assert subnets.feature.started[1].wait(TIMEOUT_S)
    results.append(one(scheduler, 110, 2))
    subnets.feature.released[1].set()
    scheduler._streams.feature.synchronize()
    results += [one(scheduler, 120, 3), one(scheduler, 130, 4)]
    assert ["feature" in result.stage_ms for result in results] == [False, False, True, False]
    spans = [span for span in trace.spans if span.stage == "feature"]
    assert [(span.frame, span.key) for span in spans] == [(0, 0), (1, 1)]
    last = next(span for span in trace.spans if span.stage == "flow" and span.frame == 2)
    assert spans[1].start_ms < last.start_ms < spans[1].end_ms, "it ran beside the frames between"


def test_a_lag_waits_for_features_that_are_late(opened, subnets):
    scheduler = opened(KeyMode(2), depth=1)
    scheduler.submit(frame_of(50, 0), is_key=True)
    scheduler.collect()
    subnets.feature.hold(1)
    assert one(scheduler, 100, 1, is_key=True).key_index == 0
    assert one(scheduler, 110, 2).key_index == 0
    scheduler.submit(frame_of(120, 3), is_key=False)
    assert subnets.flow.started[2].wait(TIMEOUT_S)
    scheduler._streams.flow.synchronize()
    assert not scheduler.is_next_done
    assert not subnets.task.started[3].is_set()
    subnets.feature.released[1].set()
    assert is_from(scheduler.collect(), 100, 120)


def test_a_pending_key_frame_takes_no_buffers_that_frames_in_flight_read(opened, subnets):
    """Every frame a key frame, used by the next: with depth sets frame 1 would see key frame 2."""
    scheduler = opened(KeyMode(1), depth=2)
    scheduler.submit(frame_of(50, 0), is_key=True)
    scheduler.collect()
    subnets.flow.hold(0)
    scheduler.submit(frame_of(100, 1), is_key=True)
    scheduler.submit(frame_of(200, 2), is_key=True)
    scheduler._streams.feature.synchronize()  # of 2, with nothing of frame 1 computed
    subnets.flow.released[0].set()
    assert is_from(scheduler.collect(), 50, 100)
    assert is_from(scheduler.collect(), 100, 200)


def test_a_new_key_frame_waits_for_no_frame_in_flight(opened, subnets):
    scheduler = opened(KeyMode(9), depth=3)
    scheduler.submit(frame_of(50, 0), is_key=True)
    scheduler.collect()
    subnets.task.hold(1)
    for index in (1, 2, 3):
        scheduler.submit(frame_of(100 + index, index), is_key=index == 1)
    assert subnets.feature.started[1].wait(TIMEOUT_S)
    scheduler._streams.feature.synchronize()
    subnets.task.released[1].set()
    assert [scheduler.collect().key_index for _ in range(3)] == [0, 0, 0]


def test_a_second_key_frame_is_refused_while_one_is_pending(opened, subnets):
    scheduler = in_background(opened)
    subnets.feature.hold(1)
    one(scheduler, 100, 1, is_key=True)
    with pytest.raises(PipelineError, match="key frame 1 is pending; frame 2 can be none"):
        scheduler.submit(frame_of(110, 2), is_key=True)
    assert one(scheduler, 110, 2).key_index == 0


def test_features_from_before_a_cut_are_never_taken_up(opened, subnets):
    scheduler = in_background(opened)
    subnets.feature.hold(1)
    one(scheduler, 100, 1, is_key=True)
    scheduler.submit(frame_of(200, 2), is_key=True, is_cut=True)
    assert not scheduler.is_key_pending
    assert not scheduler.is_next_done, "it waits for its own features"
    subnets.feature.released[1].set()
    assert is_from(scheduler.collect(), 200, 200)
    scheduler._streams.feature.synchronize()
    after = [one(scheduler, 210, index) for index in (3, 4, 5)]
    assert [result.key_index for result in after] == [2, 2, 2]
    assert all(is_from(result, 200, 210) for result in after)


def test_cuts_one_after_another_in_the_middle_of_key_frames(opened, subnets):
    """Work that was given up still computes when its buffers come round again."""
    scheduler = opened(BACKGROUND, depth=2)
    for number in range(8):  # an own key frame at each even frame, a pending one at each odd
        is_cut = number % 2 == 0
        if scheduler.is_full:
            result = scheduler.collect()
            own = result.frame.index - result.frame.index % 2
            assert result.key_index == own
            assert is_from(result, 20 + 10 * own, 20 + 10 * result.frame.index)
        if not is_cut:
            subnets.feature.hold(number)
        else:
            for event in subnets.feature.released:
                event.set()
        scheduler.submit(frame_of(20 + 10 * number, number), is_key=True, is_cut=is_cut)


def test_beginning_anew_in_the_middle_of_a_key_frame(opened, subnets):
    scheduler = in_background(opened)
    subnets.feature.hold(1)
    one(scheduler, 100, 1, is_key=True)

    def anew():
        scheduler.drop_all()
        scheduler.forget_key()

    dropping = threading.Thread(target=anew)
    dropping.start()
    subnets.feature.released[1].set()
    dropping.join(TIMEOUT_S)
    assert not dropping.is_alive()
    assert scheduler.key_index is None
    assert is_from(one(scheduler, 70, 0, is_key=True), 70, 70)
    assert is_from(one(scheduler, 80, 1), 70, 80)


def test_closing_in_the_middle_of_a_key_frame(opened, subnets):
    before = set(threading.enumerate())
    scheduler = in_background(opened)
    subnets.feature.hold(1)
    one(scheduler, 100, 1, is_key=True)
    closing = threading.Thread(target=scheduler.close)
    closing.start()
    subnets.feature.released[1].set()
    closing.join(TIMEOUT_S)
    assert not closing.is_alive()
    assert set(threading.enumerate()) == before


def test_a_feature_network_that_fails_in_the_background_comes_out(opened, subnets):
    scheduler = in_background(opened)
    subnets.feature.hold(1)
    one(scheduler, 100, 1, is_key=True)

    def broken(inputs, outputs):
        raise ValueError("burst pipe")

    subnets.feature._compute = broken
    subnets.feature.released[1].set()
    scheduler._pending.ready.synchronize()
    with pytest.raises(PipelineError, match="feature stage failed: burst pipe"):
        scheduler.submit(frame_of(110, 2), is_key=False)
    assert scheduler.in_flight == 0
    scheduler.drop_all()
    with pytest.raises(PipelineError, match="burst pipe"):
        scheduler.submit(frame_of(110, 3), is_key=True, is_cut=True)


@pytest.mark.parametrize("stage", ["half", "full"])
def test_ctrl_c_in_the_middle_of_beginning_a_key_frame(opened, subnets, monkeypatch, stage):
    """The frame was not taken; it may be submitted again, and nothing half-made is used."""

    def ctrl_c(image, out):
        raise KeyboardInterrupt

    scheduler = in_background(opened)
    with monkeypatch.context() as interrupted:
        interrupted.setattr(scheduler._enqueuer._resizer, stage, ctrl_c)
        with pytest.raises(KeyboardInterrupt):
            scheduler.submit(frame_of(100, 1), is_key=True)
    assert scheduler.in_flight == 0
    assert not scheduler.is_key_pending
    assert is_from(one(scheduler, 110, 2), 50, 110)
    subnets.feature.hold(subnets.feature.runs)
    assert is_from(one(scheduler, 120, 3, is_key=True), 50, 120)
    for event in subnets.feature.released:
        event.set()
    scheduler._streams.feature.synchronize()
    assert is_from(one(scheduler, 130, 4), 120, 130)


def test_without_overlap_the_feature_network_still_has_a_stream_of_its_own(opened, subnets):
    scheduler = opened(BACKGROUND, overlap=False, depth=1)
    scheduler.submit(frame_of(50, 0), is_key=True)
    scheduler.collect()
    subnets.feature.hold(1)
    assert one(scheduler, 100, 1, is_key=True).key_index == 0
    assert one(scheduler, 110, 2).key_index == 0


@pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity"), reason="priorities of threads are Linux's"
)
def test_the_feature_stream_has_a_lower_priority_than_the_others(opened):
    scheduler = opened(BACKGROUND)
    own = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    streams = (scheduler._streams.feature, scheduler._streams.flow, scheduler._streams.task)
    nice = {}
    for stream in streams:
        stream.enqueue(
            lambda name=stream.name: nice.update(
                {name: os.getpriority(os.PRIO_PROCESS, threading.get_native_id())}
            )
        )
        stream.synchronize()
    assert nice["flow"] == nice["task"] == own
    assert nice["feature"] == min(own + 10, 19) or own == 19


@pytest.mark.parametrize("text", ["in-order", "background", "lag:1", "lag:10000"])
def test_key_modes_by_name(text):
    assert str(parse_keys(text)) == text
    assert parse_keys(text).is_in_order == (text == "in-order")
    assert KeyMode() == IN_ORDER


@pytest.mark.parametrize(
    "text", ["", "order", "lag", "lag:", "lag:0", "lag:-1", "lag:10001", "lag:²"]
)
def test_other_key_modes_are_refused(text):
    with pytest.raises(ConfigError, match="expected in-order, background, or lag:n"):
        parse_keys(text)
