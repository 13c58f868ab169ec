"""Frames to plan with: drawn, labelled, or answered by the full network."""

import cv2
import numpy as np
import pytest

from dff_edge.boxes import Detections
from dff_edge.bundle.writer import BundleWriter
from dff_edge.errors import ConfigError
from dff_edge.evaluation.bundle_predictor import BundlePredictor
from dff_edge.plan.accuracy import measure_curves
from dff_edge.plan.footage import TaughtClip, open_footage
from dff_edge.synthetic import CLASSES
from tests.bundle.bundles import make_bundle
from tests.report.clips import NoiseClip, write_clips

STREET = "synthetic://street?split=val&clips=2&frames=3&height=32&width=64"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("bundle") / "small", (32, 64))


def test_drawn_frames_have_the_size_of_the_camera_or_the_model(bundle):
    with open_footage(bundle, None) as footage:
        assert {image.shape for image in footage.images} == {(32, 64, 3)}
        assert not footage.clips
        assert not np.array_equal(footage.images[0], footage.images[-1])
    with open_footage(bundle, None, (48, 80)) as footage:
        assert {image.shape for image in footage.images} == {(48, 80, 3)}


def test_labelled_folders_are_measured_by_their_labels(bundle, tmp_path):
    data = write_clips(tmp_path / "data", [NoiseClip(1, length=3)])
    with open_footage(bundle, str(data)) as footage:
        assert footage.truth == "labels"
        np.testing.assert_array_equal(footage.clips[0].labels(2), NoiseClip(1, length=3).labels(2))
        assert footage.images[0].shape == (40, 72, 3)


def test_frames_without_labels_are_compared_with_the_full_network(bundle, tmp_path):
    clip = NoiseClip(1, length=6)
    for index in range(6):
        cv2.imwrite(str(tmp_path / f"{index}.png"), clip.image(index))
    with open_footage(bundle, str(tmp_path)) as footage:
        assert footage.truth == "the full network in fp32"
        (taught,) = footage.clips
        assert len(taught) == 6
        with BundlePredictor(bundle, "fp32", 1) as predictor:
            expected = predictor.predict(predictor.extract(clip.image(4)), None)
        np.testing.assert_array_equal(taught.labels(4), expected)
        full = ("fp32", "onnxruntime")
        curves, _ = measure_curves(bundle, footage.clips, [full], 2, seconds=9.0)
    assert curves[full].at[0] == 1.0
    assert curves[full].at[2] < 1.0
    assert curves[full].held[0] == 1.0


def test_drawn_streets_have_labels_for_models_of_streets_alone(bundle, tmp_path):
    own = make_bundle(tmp_path / "street", (32, 64), classes=len(CLASSES))
    with BundleWriter.extend(own) as writer:
        classes = [info.model_dump() for info in own.manifest.classes]
        for info, name in zip(classes, CLASSES, strict=True):
            info["name"] = name
        writer.update(classes=classes)
        own = writer.commit()
    with open_footage(own, STREET) as footage:
        assert footage.truth == "labels"
    with open_footage(bundle, STREET) as footage:
        assert footage.truth == "the full network in fp32"
        assert [len(clip) for clip in footage.clips] == [3, 3]


class Teacher:
    """Answers every frame with the same."""

    def __init__(self, answer):
        self._answer = answer

    def extract(self, image):
        return image

    def predict(self, key, image):
        assert image is None
        return self._answer


def test_objects_that_the_full_network_is_sure_of_are_the_true_boxes():
    boxes = np.float32([[0, 0, 9, 9], [5, 5, 20, 20]])
    found = Detections(boxes, np.float32([0.9, 0.3]), np.int32([2, 1]))
    image = np.zeros((32, 64, 3), np.uint8)
    taught = TaughtClip("boxes", [image, image], Teacher(found), gives_boxes=True)
    truth = taught.boxes(1)
    assert truth.boxes.tolist() == [[0, 0, 9, 9]]
    assert truth.labels.tolist() == [2]
    assert not truth.ignored.any()
    assert truth.size == (32, 64)
    assert taught.labels(1) is None


def test_answers_that_cannot_take_the_place_of_labels_are_refused():
    image = np.zeros((32, 64, 3), np.uint8)
    depth = Teacher(np.zeros((32, 64), np.float32))
    with pytest.raises(ConfigError, match="'depth', frame 0 has no labels, .* give labelled data"):
        TaughtClip("depth", [image], depth, gives_boxes=False).labels(0)


def test_cameras_are_refused(bundle, tmp_path):
    cv2.imwrite(str(tmp_path / "0.png"), NoiseClip(1).image(0))
    with pytest.raises(ConfigError, match="is live, and cannot be measured on twice"):
        with open_footage(bundle, f"{tmp_path}/*.png?rate=30"):
            pass
