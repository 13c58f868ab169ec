"""Measured times, and simulated runs, against real pipelines whose networks take a known time."""

from collections import Counter

import numpy as np
import pytest

from dff_edge.plan import timing
from dff_edge.plan.simulation import Service, Times, simulate
from dff_edge.plan.timing import answer_live, measure, screen
from dff_edge.runtime.pipeline import Pipeline
from dff_edge.runtime.policy import parse_policy
from tests.bundle.bundles import make_bundle
from tests.plan.virtual import VirtualCamera, VirtualClock, VirtualMachine, quick

RATE = 10.0
FLOW_S, TASK_S = 0.015, 0.005


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("bundle") / "small", (32, 64))


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (32, 64, 3), dtype=np.uint8) for _ in range(7)]


@pytest.fixture
def machine(bundle, monkeypatch):
    """Open a pipeline on a virtual machine, by key mode and time of the feature network."""
    clock = VirtualClock()
    quick(monkeypatch, clock)
    opened = []

    def make(keys, feature_s):
        pipeline = Pipeline.open(bundle, threads=1, depth=1, keys=keys)
        times = {"feature_s": feature_s, "flow_s": FLOW_S, "task_s": TASK_S}
        opened.append(VirtualMachine(pipeline, clock, monkeypatch, **times))
        return opened[-1]

    yield make
    for made in opened:
        made.end()
        made.pipeline.close()


def played(machine, images, policy, count):
    machine.pipeline.policy = parse_policy(policy)
    camera = VirtualCamera(machine, images, rate=RATE, count=count)
    return [answered.result for answered in answer_live(machine.pipeline, camera)]


def shown_by(results, count):
    """Return what each frame from the second answer on is left with, as ``Forecast.shown``."""
    answers = {result.frame.index: result for result in results}
    shown, latest = Counter(), None
    for index in range(results[1].frame.index, count):
        latest = answers.get(index, latest)
        shown[latest.key_distance, index - latest.frame.index] += 1
    return shown


@pytest.mark.parametrize("feature_s", [0.03, 0.13, 0.35])
@pytest.mark.parametrize("policy", ["fixed:1", "fixed:3", "fixed:10"])
def test_a_run_in_order_is_as_simulated(machine, images, policy, feature_s):
    virtual = machine("in-order", feature_s)
    results = played(virtual, images, policy, 40)
    key = [Service(feature_s + TASK_S, feature_s + TASK_S)]
    other = [Service(FLOW_S + TASK_S, FLOW_S + TASK_S)]
    interval = virtual.pipeline.policy.interval
    forecast = simulate(Times([0.0], key, other), interval, background=False, rate=RATE, frames=40)
    ages_s = [result.age_s for result in results[1:]]
    assert ages_s == pytest.approx(list(forecast.ages_s), abs=1e-6)
    assert shown_by(results, 40) == forecast.shown
    assert sum(forecast.shown.values()) == forecast.captured
    assert len({result.key_index for result in results[1:]}) == forecast.key_frames


@pytest.mark.parametrize("feature_s", [0.05, 0.25, 0.73])
@pytest.mark.parametrize("policy", ["idle", "fixed:3", "fixed:10"])
def test_a_run_in_the_background_is_as_simulated(machine, images, policy, feature_s):
    virtual = machine("background", feature_s)
    results = played(virtual, images, policy, 40)
    key = [Service(feature_s + TASK_S, feature_s + TASK_S)]
    other = [Service(FLOW_S + TASK_S, FLOW_S + TASK_S)]
    interval = virtual.pipeline.policy.interval
    forecast = simulate(
        Times([0.0], key, other, other, other, [feature_s]),
        interval,
        background=True,
        rate=RATE,
        frames=40,
    )
    ages_s = [result.age_s for result in results[1:]]
    assert ages_s == pytest.approx(list(forecast.ages_s), abs=1e-6)
    assert shown_by(results, 40) == forecast.shown
    assert sum(forecast.shown.values()) == forecast.captured
    assert len({result.key_index for result in results[1:]}) == forecast.key_frames


@pytest.fixture
def virtual_source(monkeypatch):
    """Have measurements play their images by the virtual clock."""

    def play(machine):
        def camera(recording, rate):
            return VirtualCamera(machine, recording._images, rate=rate)

        monkeypatch.setattr(timing, "PacedSource", camera)

    return play


def assert_all(services, seconds):
    assert services
    for service in services:
        assert service == pytest.approx((seconds, seconds), abs=1e-6)


def test_measured_times_in_order_are_those_of_the_networks(machine, images, virtual_source):
    virtual = machine("in-order", 0.25)
    virtual_source(virtual)
    policy = virtual.pipeline.policy
    times = measure(virtual.pipeline, images, rate=20.0, seconds=3.0)
    assert_all(times.key, 0.25 + TASK_S)
    assert_all(times.other, FLOW_S + TASK_S)
    assert 5 <= len(times.key) <= 12  # a quarter of the answers, for about three seconds
    assert times.pickup_s == pytest.approx([0.0] * len(times.pickup_s))
    assert not times.begins + times.beside + times.feature_s
    assert virtual.pipeline.policy is policy


def test_measured_times_in_the_background_are_those_of_the_networks(
    machine, images, virtual_source
):
    virtual = machine("background", 0.23)
    virtual_source(virtual)
    times = measure(virtual.pipeline, images, rate=20.0, seconds=4.5)
    assert_all(times.key, 0.23 + TASK_S)
    for services in (times.other, times.beside, times.begins):
        assert_all(services, FLOW_S + TASK_S)
    # Each third of the time: one key frame that is waited for; one in five of the others begins.
    assert len(times.key) == 2
    assert len(times.beside) == pytest.approx(4 * len(times.begins), abs=4)
    # Seen between the fourth and the fifth frame after its own.
    assert times.feature_s
    assert all(0.2 - 1e-6 <= seconds <= 0.25 + 1e-6 for seconds in times.feature_s)


def test_a_network_without_end_ends_the_measurement(machine, images, virtual_source):
    virtual = machine("background", 1e6)
    virtual_source(virtual)
    times = measure(virtual.pipeline, images, rate=20.0, seconds=3.0)
    assert not times.feature_s


def test_a_slow_camera_is_not_waited_for(machine, images, virtual_source):
    virtual = machine("in-order", 0.01)
    virtual_source(virtual)
    begin_s = virtual.clock.now_s
    times = measure(virtual.pipeline, images, rate=0.5, seconds=2.0)
    assert virtual.clock.now_s - begin_s < 3.0
    assert len(times.key) + len(times.other) >= 25


def test_a_first_look_tells_key_frames_from_others(machine, images):
    virtual = machine("in-order", 0.25)
    found = screen(virtual.pipeline, images)
    assert found.key_s == pytest.approx(0.25 + TASK_S)
    assert found.other_s == pytest.approx(FLOW_S + TASK_S)
