"""A forecast beside a real run on a paced source."""

import threading

import numpy as np
import pytest

from dff_edge.errors import PipelineError
from dff_edge.plan.candidates import Candidate, Setup
from dff_edge.plan.verify import Speed, off, verify
from dff_edge.runtime.keys import BACKGROUND, IN_ORDER
from tests.bundle.bundles import make_bundle

IMAGES = [np.full((32, 64, 3), value, np.uint8) for value in (100, 101, 102)]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("bundle") / "small", (32, 64))


@pytest.mark.parametrize(("keys", "policy"), [(IN_ORDER, "fixed:3"), (BACKGROUND, "idle")])
def test_speed_is_that_of_a_camera_at_the_rate(bundle, keys, policy):
    candidate = Candidate(Setup("fp32", "onnxruntime", 1, keys), policy)
    speed = verify(bundle, candidate, IMAGES, rate=200.0, frames=40)
    assert 0 < speed.answered_share <= 1
    assert speed.fps == pytest.approx(200 * speed.answered_share)
    assert 0 < speed.age_p48_s <= speed.age_p50_s <= speed.age_p52_s <= speed.age_p99_s
    assert speed.distance_p50 >= (1 if keys is BACKGROUND else 0)


def test_cameras_run_at_once_over_one_set_of_networks(bundle):
    candidate = Candidate(Setup("fp32", "onnxruntime", 1, BACKGROUND), "idle")
    before = set(threading.enumerate())
    speed = verify(bundle, candidate, IMAGES, rate=100.0, frames=20, streams=2)
    assert speed.fps == pytest.approx(100 * speed.answered_share)
    assert 0 < speed.answered_share <= 1
    assert set(threading.enumerate()) == before


def test_a_failure_of_one_camera_comes_out(bundle, monkeypatch):
    def broken(pipeline, source):
        raise PipelineError("burst pipe")
        yield

    monkeypatch.setattr("dff_edge.plan.verify.answer_live", broken)
    candidate = Candidate(Setup("fp32", "onnxruntime", 1, IN_ORDER), "fixed:2")
    with pytest.raises(PipelineError, match="burst pipe"):
        verify(bundle, candidate, IMAGES, rate=100.0, frames=20, streams=2)


def test_a_median_between_two_kinds_of_answers_is_either():
    # 10 ms for half of the answers and 33 for the key frames between them: one key frame more.
    expected = Speed(30.0, 1.0, 0.010, 0.033, 0.010, 0.033, 1.0)
    measured = Speed(24.0, 0.8, 0.030, 0.030, 0.011, 0.030, 1.0)
    errors = off(expected, measured)
    assert errors["age_p50_s"] == pytest.approx((10 - 11) / 11)  # not (10 - 30) / 30
    assert errors["age_p99_s"] == pytest.approx(0.1)
    assert errors["fps"] == pytest.approx(0.25)
    assert set(errors) == {"fps", "answered_share", "age_p50_s", "age_p99_s"}
    assert off(expected, measured._replace(age_p48_s=0.030))["age_p50_s"] == pytest.approx(0.1)


def test_a_median_of_one_kind_is_compared_as_it_is():
    expected = Speed(30.0, 1.0, 0.010, 0.033, 0.0098, 0.0102, 1.0)
    measured = Speed(30.0, 1.0, 0.0105, 0.033, 0.0101, 0.0108, 1.0)
    assert off(expected, measured)["age_p50_s"] == pytest.approx((10 - 10.5) / 10.5)
