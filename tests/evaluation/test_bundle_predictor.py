"""A bundle answers as its torch model does."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from dff_edge.data.clips import open_clips
from dff_edge.errors import BundleError, EngineError, FrameError
from dff_edge.evaluation.bundle_predictor import BundlePredictor
from dff_edge.evaluation.evaluate import evaluate
from dff_edge.runtime.kernels.decode import decode_labels
from tests.bundle.bundles import make_bundle
from tests.report.clips import NoiseClip

# Pixels whose two best classes differ by less than the float32 error.
MIN_AGREEMENT = 0.999


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("small") / "bundle")


@pytest.fixture
def image():
    return np.random.default_rng(2).integers(0, 256, (50, 70, 3), np.uint8)


def test_labels_equal_those_of_the_torch_model(tmp_path_factory):
    pytest.importorskip("torch")
    from dff_edge.trainer.predictor import TorchPredictor
    from tests.export.checkpoints import FRAME_SIZE, tiny_bundle, tiny_checkpoint

    clips = open_clips("synthetic://street?split=val&clips=2&frames=5&height=90&width=130")
    torch_model = TorchPredictor(tiny_checkpoint().model, FRAME_SIZE)
    same = []
    with BundlePredictor(tiny_bundle(tmp_path_factory)) as predictor:
        for clip in clips:
            keys = [r.extract(clip.image(0)) for r in (torch_model, predictor)]
            for i in range(5):
                image = clip.image(i) if i else None
                expected = torch_model.predict(keys[0], image)
                labels = predictor.predict(keys[1], image)
                assert labels.shape == (90, 130)
                assert len(np.unique(expected)) > 1
                same.append(np.mean(labels == expected))

    assert np.mean(same) >= MIN_AGREEMENT


def test_evaluation_runs_on_it(small):
    clips = [NoiseClip(1, length=4, size=(48, 64))]
    with BundlePredictor(small, threads=1) as predictor:
        accuracy = evaluate(predictor, clips, small.manifest.class_names, max_interval=3)

    assert len(accuracy.by_distance) == 3
    assert all(matrix.sum() > 0 for matrix in accuracy.by_distance)


def test_key_frame_is_answered_from_its_own_features(small, image):
    with BundlePredictor(small, threads=1) as predictor:
        key = predictor.extract(image)
        labels = predictor.predict(key, None)
        task = predictor._opened.subnets.task
        scores = task.outputs["scores"].empty()
        task.run({"features": key.features}, {"scores": scores})

    np.testing.assert_array_equal(labels, decode_labels(scores[0], (50, 70)))


def test_keys_stay_as_they_are_when_other_frames_come(small, image):
    with BundlePredictor(small, threads=1) as predictor:
        key = predictor.extract(image)
        features, half = key.features.copy(), key.half.copy()
        predictor.predict(predictor.extract(255 - image), image // 2)

        np.testing.assert_array_equal(key.features, features)
        np.testing.assert_array_equal(key.half, half)


def test_grey_images_are_taken_and_answered_at_their_size(small):
    grey = np.random.default_rng(3).integers(0, 256, (33, 41), np.uint8)
    with BundlePredictor(small, threads=1) as predictor:
        key = predictor.extract(grey)

        assert predictor.predict(key, None).shape == (33, 41)
        assert predictor.predict(key, np.zeros((20, 30, 3), np.uint8)).shape == (20, 30)


def test_precision_that_is_not_there_is_refused(small):
    with pytest.raises(BundleError, match="holds no int8 graphs, only fp32"):
        BundlePredictor(small, "int8")


def test_float_image_is_refused(small):
    with (
        BundlePredictor(small, threads=1) as predictor,
        pytest.raises(FrameError, match="dtype float64, expected uint8"),
    ):
        predictor.extract(np.zeros((8, 8, 3)))


def test_closed_one_is_refused_and_leaves_no_thread(small, image):
    threads = threading.active_count()
    predictor = BundlePredictor(small, threads=1)
    predictor.close()
    predictor.close()

    with pytest.raises(EngineError, match="fp32 feature engine is closed"):
        predictor.extract(image)
    assert threading.active_count() == threads
