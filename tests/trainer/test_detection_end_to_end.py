"""Detection end to end: data, training, checkpoint, and answers in source pixels."""

import csv

import cv2
import numpy as np
import pytest
import torch

from dff_edge.boxes import in_source_pixels
from dff_edge.data.clips import open_clips
from dff_edge.evaluation.evaluate import evaluate
from dff_edge.runtime.kernels.resize import FrameResizer
from dff_edge.synthetic import BOX_CLASSES, StreetScene
from dff_edge.trainer.checkpoint import load_checkpoint
from dff_edge.trainer.config import TrainConfig
from dff_edge.trainer.models import detect, warp_features
from dff_edge.trainer.predictor import TorchPredictor
from dff_edge.trainer.train import train
from tests.trainer.tiny import DETECTION_MODEL, STAGE, tiny_dict

FRAME_SIZE = tuple(DETECTION_MODEL["frame_size"])
VALIDATION = "synthetic://street?split=val&clips=1&frames=5&height=64&width=128"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    raw = tiny_dict(model=DETECTION_MODEL)
    raw["data"]["validate_on"] = VALIDATION
    raw["stages"] = [
        {"kind": "recognition", **STAGE},
        {"kind": "pairs", **STAGE, "validate_every": 2},
    ]
    return train(TrainConfig.model_validate(raw), tmp_path_factory.mktemp("run") / "run")


@pytest.fixture(scope="module")
def model(checkpoint):
    return load_checkpoint(checkpoint).model


def test_trains_in_64_bits(tmp_path):
    stages = [{"kind": "pairs", **STAGE, "steps": 1}]
    device = {"accelerator": "cpu", "devices": 1, "precision": "64-true"}
    raw = tiny_dict(model=DETECTION_MODEL, stages=stages, device=device)

    assert train(TrainConfig.model_validate(raw), tmp_path / "run").is_dir()


def test_run_logs_the_parts_of_the_loss_and_validates_by_map(checkpoint):
    (log,) = checkpoint.parent.glob("1-pairs/logs/*/metrics.csv")
    with log.open(newline="") as lines:
        (*_, last) = csv.DictReader(lines)

    parts = ("rpn_class_loss", "rpn_box_loss", "classification_loss", "box_loss")
    assert sum(float(last[part]) for part in parts) == pytest.approx(float(last["loss"]), rel=1e-4)
    assert 0 <= float(last["val_map_l5"]) <= 1


def test_threshold_of_boxes_is_chosen_on_what_the_run_is_validated_on(checkpoint):
    """Counted again on the boxes of the checkpoint: no other candidate has a better F1."""
    loaded = load_checkpoint(checkpoint)
    chosen = loaded.score_threshold
    assert (chosen.data, chosen.key_interval) == (VALIDATION, 5)
    clips = open_clips(VALIDATION)
    predictor = TorchPredictor(loaded.model, FRAME_SIZE)
    whole = evaluate(predictor, clips, BOX_CLASSES, 5, task="detection").matches(range(5))

    def f1(score):
        of_class = []
        for label in np.flatnonzero(whole.truths):
            shown = (whole.labels == label) & (whole.scores >= np.float32(score))
            of_class.append(2 * whole.right[shown].sum() / (shown.sum() + whole.truths[label]))
        return np.mean(of_class)

    # The weights that are stored are those of the last step.
    assert f1(chosen.score) == pytest.approx(chosen.f1)
    assert chosen.f1 == pytest.approx(max(f1(number / 100) for number in range(1, 100)))


def test_answers_are_detections_in_source_pixels(model):
    """Of frames of another size and shape: x and y are scaled apart."""
    scene = StreetScene(3, "val", FRAME_SIZE, 9)
    key, current = (cv2.resize(scene.render(n)[0], (96, 80)) for n in (2, 6))
    predictor = TorchPredictor(model, FRAME_SIZE)

    kept = predictor.extract(key)
    of_key, of_current = predictor.predict(kept, None), predictor.predict(kept, current)

    resizer = FrameResizer(FRAME_SIZE)

    def seen_by(resize, frame, height, width):
        seen = np.empty((1, height, width, 3), np.uint8)
        resize(frame, seen)
        return torch.from_numpy(seen).permute(0, 3, 1, 2).float()

    with torch.no_grad():
        features = model.extract(seen_by(resizer.full, key, 64, 128))
        halves = [seen_by(resizer.half, frame, 32, 64) for frame in (key, current)]
        flow, scale = model.estimate_flow(*halves)
        moved = warp_features(features, flow, scale)
        for answer, seen in ((of_key, features), (of_current, moved)):
            (found,) = detect(model.task(seen), FRAME_SIZE, model.rfcn)
            expected = in_source_pixels(found, FRAME_SIZE, (80, 96))
            assert len(answer) > 0
            np.testing.assert_allclose(answer.boxes, expected.boxes, atol=1e-3)
            np.testing.assert_array_equal(answer.labels, expected.labels)
    assert not np.array_equal(of_key.scores, of_current.scores)
