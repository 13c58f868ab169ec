"""Accuracy of a run: weighted by hand, and measured as the evaluation measures it."""

from collections import Counter

import numpy as np
import pytest

from dff_edge.bundle.writer import BundleWriter
from dff_edge.errors import ConfigError
from dff_edge.evaluation.bundle_predictor import BundlePredictor
from dff_edge.evaluation.evaluate import evaluate
from dff_edge.evaluation.label_accuracy import confusion, mean_iou
from dff_edge.plan.accuracy import Curve, distances_up_to, measure_curves, recorded_curve
from tests.bundle.bundles import make_bundle
from tests.report.clips import NoiseClip, UnlabelledClip

FULL = ("fp32", "onnxruntime")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle") / "small"
    return make_bundle(folder, (32, 64), precisions=("fp32", "int8"))


def test_the_mean_over_frames_is_weighted_by_how_often_each_distance_occurs():
    curve = Curve({0: 0.8, 1: 0.7, 3: 0.5})
    found = curve.expected(Counter({(0, 0): 1, (1, 0): 2, (2, 0): 1}))
    assert found.value == pytest.approx((0.8 + 2 * 0.7 + 0.6) / 4)  # 2 lies between 1 and 3
    assert not found.is_bound


def test_beyond_what_was_measured_it_is_a_bound():
    found = Curve({0: 0.8, 3: 0.5}).expected(Counter({(0, 0): 1, (9, 0): 1}))
    assert found.value == pytest.approx((0.8 + 0.5) / 2)
    assert found.is_bound
    few = Curve({0: 0.8, 3: 0.5}).expected(Counter({(0, 0): 99, (9, 0): 1}))
    assert not few.is_bound


def test_a_frame_that_keeps_an_answer_loses_what_answers_lose_with_age():
    curve = Curve({0: 0.8, 2: 0.6}, {0: 0.8, 1: 0.4})
    found = curve.expected(Counter({(0, 0): 1, (2, 1): 1}))
    assert found.value == pytest.approx((0.8 + 0.6 * 0.5) / 2)
    assert not found.is_bound


def test_without_knowing_that_it_counts_as_propagated_which_is_a_bound():
    found = Curve({0: 0.8, 2: 0.6, 4: 0.4}).expected(Counter({(0, 0): 1, (2, 1): 1}))
    assert found.value == pytest.approx((0.8 + 0.5) / 2)
    assert found.is_bound


def test_records_of_the_manifest(bundle, tmp_path):
    assert recorded_curve(bundle, "fp32", "ort") is None
    common = {"data": "some", "protocol": "ours"}
    records = [
        {**common, "precision": "int8", "distance": 0, "miou": 0.9},
        {**common, "precision": "int8", "distance": 1, "miou": 0.8},
        {**common, "precision": "int8", "key_interval": 2, "miou": 0.1},
        {**common, "precision": "fp32", "distance": 1, "miou": 0.2},
    ]
    copy = make_bundle(tmp_path / "own", (32, 64), precisions=("fp32", "int8"))
    with BundleWriter.extend(copy) as writer:
        writer.update(accuracy=records)
        recorded = writer.commit()
    assert recorded_curve(recorded, "int8", "ort") == Curve({0: 0.9, 1: 0.8})
    assert recorded_curve(recorded, "fp32", "ort") is None  # without distance 0 it is no curve


def test_distances_reach_as_far_as_needed_and_no_further():
    assert distances_up_to(0) == (0,)
    assert distances_up_to(4) == (0, 1, 2, 3, 5)
    assert distances_up_to(5) == (0, 1, 2, 3, 5)
    assert distances_up_to(10**6)[-1] == 60


def test_measured_accuracy_is_that_of_the_evaluation(bundle):
    clips = [NoiseClip(1), NoiseClip(2)]
    graphs = [("fp32", "onnxruntime"), ("int8", "onnxruntime")]
    curves, frames = measure_curves(bundle, clips, graphs, 3, seconds=60.0)
    assert frames == sum(len(clip) - 3 for clip in clips)
    names = bundle.manifest.class_names
    for (precision, _), curve in curves.items():
        with BundlePredictor(bundle, precision, 1) as predictor:
            expected = evaluate(predictor, clips, names, 4)
        for distance in range(4):
            assert curve.at[distance] == pytest.approx(expected.at_distance(distance))


def test_a_kept_answer_is_scored_by_the_later_frame(bundle):
    clip = NoiseClip(1)
    curves, _ = measure_curves(bundle, [clip], [FULL], 2, seconds=60.0)
    count = len(bundle.manifest.class_names)
    with BundlePredictor(bundle, "fp32", 1) as predictor:
        answers = [
            predictor.predict(predictor.extract(clip.image(n)), None) for n in range(len(clip))
        ]
    for held in range(3):
        total = np.zeros((count, count), np.int64)
        for index in range(2, len(clip)):
            total += confusion(clip.labels(index), answers[index - held], count)
        assert curves[FULL].held[held] == pytest.approx(mean_iou(total))


def test_time_bounds_the_frames(bundle):
    clips = [NoiseClip(1), NoiseClip(2)]
    _, frames = measure_curves(bundle, clips, [FULL], 1, seconds=0.0)
    assert frames == 4


def test_short_clips_lower_the_largest_distance(bundle):
    clip = NoiseClip(1)
    curves, frames = measure_curves(bundle, [clip], [FULL], 60, seconds=60.0)
    assert max(curves[FULL].at) <= len(clip) - 1
    assert frames >= 1


@pytest.mark.parametrize(
    ("clip", "message"),
    [
        (UnlabelledClip(1), "nothing was scored"),
        (NoiseClip(1, length=1), "with a frame before it"),
    ],
)
def test_clips_that_say_nothing_are_refused(bundle, clip, message):
    with pytest.raises(ConfigError, match=message):
        measure_curves(bundle, [clip], [FULL], 1, seconds=1.0)
