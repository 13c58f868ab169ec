"""Answers from older features than a model is known for are told, once."""

import logging

import numpy as np
import pytest

from dff_edge.bundle.records import Calibration
from dff_edge.bundle.writer import BundleWriter
from dff_edge.frames import Frame
from dff_edge.runtime.keys import IN_ORDER, KeyMode
from dff_edge.runtime.known_distances import KnownDistances
from dff_edge.runtime.pipeline import Pipeline
from dff_edge.runtime.pipelines import Pipelines
from dff_edge.runtime.policy import AsSoonAsIdle, FixedInterval
from tests.bundle.bundles import make_bundle

FRAME_SIZE = (64, 96)


@pytest.fixture
def warnings(caplog):
    caplog.set_level(logging.WARNING, logger="dff_edge.runtime")
    return lambda: [record.getMessage() for record in caplog.records]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    opened = make_bundle(tmp_path_factory.mktemp("known") / "small", FRAME_SIZE)
    provenance = opened.manifest.provenance.model_copy(update={"max_distance": 3})
    with BundleWriter.extend(opened) as writer:
        writer.update(provenance=provenance.model_dump(mode="json", exclude_none=True))
        return writer.commit()


@pytest.mark.parametrize(
    ("policy", "keys", "oldest"),
    [
        (FixedInterval(11), IN_ORDER, 10),
        (FixedInterval(5), KeyMode(6), 10),
    ],
)
def test_interval_and_lag_add_up(policy, keys, oldest, warnings):
    KnownDistances(oldest).expect(policy, keys)
    KnownDistances(None).expect(policy, keys)
    assert warnings() == []

    KnownDistances(oldest - 1).expect(policy, keys)
    (warning,) = warnings()
    assert f"up to {oldest} frames old" in warning
    assert f"calibrated for {oldest - 1}." in warning
    assert f"--max-interval {oldest + 1}" in warning


def test_policy_without_a_bound_is_judged_by_its_results(warnings):
    KnownDistances(0).expect(AsSoonAsIdle(), KeyMode(None))
    assert warnings() == []


def run(bundle, indices):
    with Pipeline.open(bundle, policy="fixed:4", depth=1) as pipeline:
        image = np.zeros((*FRAME_SIZE, 3), np.uint8)
        return list(pipeline.run(Frame(image, index, float(index)) for index in indices))


def test_pipeline_within_them_says_nothing(bundle, warnings):
    assert len(run(bundle, range(9))) == 9
    assert warnings() == []


def test_policy_beyond_them_is_told_when_the_pipeline_is_opened(bundle, warnings):
    Pipeline.open(bundle, policy="fixed:5").close()
    (warning,) = warnings()
    assert "4 frames old with fixed:5, in-order; this model was trained" in warning


def test_late_features_are_told_once(bundle, warnings):
    with Pipeline.open(bundle, policy="fixed:1", keys="lag:4", depth=1) as pipeline:
        list(
            pipeline.run(Frame(np.zeros((*FRAME_SIZE, 3), np.uint8), i, float(i)) for i in range(9))
        )
    (warning,) = warnings()
    assert "4 frames old with fixed:1, lag:4" in warning


class Never(AsSoonAsIdle):
    def is_key(self, context):
        return False


def test_results_beyond_them_are_told_once(bundle, warnings):
    with Pipeline.open(bundle, policy=Never(), keys="background", depth=1) as pipeline:
        image = np.zeros((*FRAME_SIZE, 3), np.uint8)
        list(pipeline.run(Frame(image, index, float(index)) for index in (0, 2, 3, 5, 9)))
    (warning,) = warnings()
    assert "5 frames old at frame 5" in warning


def test_one_of_several_streams_is_named(bundle, warnings):
    policies = [FixedInterval(4), FixedInterval(5)]
    Pipelines.open(bundle, 2, policy=policies, names=["front", "rear"]).close()
    (warning,) = warnings()
    assert warning.startswith("rear: features are up to 4 frames old with fixed:5")


def test_streams_without_names_are_numbered(bundle, warnings):
    image = np.zeros((*FRAME_SIZE, 3), np.uint8)
    policies = [Never(), Never()]
    with Pipelines.open(bundle, 2, policy=policies, keys="background", depth=1) as pipelines:
        for pipeline, last in zip(pipelines, (3, 4), strict=True):
            list(pipeline.run(Frame(image, index, float(index)) for index in (0, last)))
    (warning,) = warnings()
    assert warning.startswith("stream 1: features are up to 4 frames old at frame 4")


def test_smaller_of_training_and_calibration_counts(bundle):
    manifest = bundle.manifest
    record = {
        "source": "clips",
        "sha256": "0" * 64,
        "clips": 1,
        "pairs": 1,
        "frames": 2,
        "date": "2026-01-01",
        "versions": {},
    }

    def known(trained, **calibrated):
        provenance = manifest.provenance.model_copy(update={"max_distance": trained})
        ranges = {"ort": {"int8": Calibration(**record, **calibrated)}}
        changed = manifest.model_copy(update={"provenance": provenance, "calibration": ranges})
        return changed.known_distance("int8"), changed.known_distance("fp32")

    assert known(30, max_distance=9) == (9, 30)
    assert known(9, max_distance=30) == (9, 9)
    assert known(9) == (9, 9)
    assert known(None, max_distance=9) == (9, None)
