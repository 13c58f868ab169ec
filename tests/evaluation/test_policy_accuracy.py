"""Accuracy of a policy: the answers of a run, scored at the distances that occurred."""

from __future__ import annotations

import numpy as np
import pytest

from dff_edge.errors import ConfigError
from dff_edge.evaluation.bundle_predictor import BundlePredictor
from dff_edge.evaluation.label_accuracy import confusion, mean_iou
from dff_edge.evaluation.policy_accuracy import evaluate_policy
from dff_edge.frames import Frame
from dff_edge.runtime.pipeline import Pipeline
from tests.bundle.bundles import make_bundle
from tests.bundle.staleness_models import with_staleness
from tests.report.clips import NoiseClip


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return with_staleness(make_bundle(tmp_path_factory.mktemp("small") / "bundle"))


@pytest.fixture(scope="module")
def clips():
    return [NoiseClip(1, length=5), NoiseClip(2, length=7)]


def evaluated(bundle, clips, policy, **how):
    with Pipeline.open(bundle, policy=policy, depth=1, threads=1, **how) as pipeline:
        return evaluate_policy(pipeline, clips, bundle.manifest.class_names)


def test_scores_are_those_of_the_frames_that_were_answered_at_each_distance(bundle, clips):
    found = evaluated(bundle, clips, "fixed:3")

    matrices = np.zeros((3, 3, 3), np.int64)
    with BundlePredictor(bundle, threads=1) as predictor:
        for clip in clips:
            for i in range(len(clip)):
                if i % 3 == 0:
                    key = predictor.extract(clip.image(i))
                if clip.is_labelled(i):
                    labels = predictor.predict(key, clip.image(i) if i % 3 else None)
                    matrices[i % 3] += confusion(clip.labels(i), labels, 3)
    assert (found.frames, found.key_frames) == (12, 5)
    assert sum(found.scored) == sum(clip.is_labelled(i) for clip in clips for i in range(len(clip)))
    for distance, matrix in enumerate(matrices):
        assert found.accuracy.at_distance(distance) == pytest.approx(mean_iou(matrix), abs=2e-3)
    assert found.overall == pytest.approx(mean_iou(matrices.sum(axis=0)), abs=2e-3)
    told = found.as_dict()
    assert told["key_share"] == pytest.approx(5 / 12)
    assert [row["distance"] for row in told["at_distance"]] == [
        distance for distance, count in enumerate(found.scored) if count
    ]


def test_staleness_is_the_mean_over_all_answers(bundle, clips):
    found = evaluated(bundle, clips, "fixed:3")
    with Pipeline.open(bundle, policy="fixed:3", depth=1, threads=1) as pipeline:
        told = [
            result.expected_disagreement
            for clip in clips
            for result in pipeline.run(Frame(clip.image(i), i, i / 30) for i in range(len(clip)))
        ]
    assert found.expected_disagreement == pytest.approx(np.mean(told))


def test_a_lag_makes_the_distances_longer(bundle, clips):
    found = evaluated(bundle, clips, "fixed:3", keys="lag:2")

    # 0 0 0 0 0 | 0 0 0 0 0 3 3: frame 3 is begun at 3, and used from 5 on.
    told = [row["distance"] for row in found.as_dict()["at_distance"]]
    assert max(told) == 4
    assert found.key_frames == 3


def test_clips_without_labels_are_refused(bundle):
    class Unlabelled(NoiseClip):
        def is_labelled(self, index):
            return False

    with pytest.raises(ConfigError, match="no frame of 1 clips is labelled"):
        evaluated(bundle, [Unlabelled(1, length=3)], "fixed:3")
