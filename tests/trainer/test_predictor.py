"""The torch predictor against the networks called one by one."""

import cv2
import numpy as np
import pytest
import torch

from dff_edge.runtime.kernels.decode import decode_labels
from dff_edge.trainer.models import warp_features
from dff_edge.trainer.predictor import TorchPredictor
from tests.runtime.kernels.resizing import resize_by_convention

FRAME_SIZE = (32, 64)


@pytest.fixture
def model(model):
    """One whose labels say much of features, flow and scale: none is nearly constant."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(20171)
        model.feature.feat_conv.weight.normal_(std=0.3)
        model.feature.feat_conv.bias.fill_(0.5)
        model.flow.flow.weight.mul_(100)
        model.flow.scale.weight.normal_(std=0.5)
        model.task.score.weight.normal_()
        model.task.score.bias.zero_()
    return model


@pytest.fixture
def frames(rng):
    """Two source frames of another size and shape than the network's."""
    small = rng.integers(0, 256, (2, 9, 11, 3), np.uint8)
    return [cv2.resize(frame, (90, 50)) for frame in small]


@pytest.fixture
def no_grad():
    with torch.no_grad():
        yield


def tensor(frame, size):
    resized = resize_by_convention(frame, size)
    return torch.from_numpy(resized).permute(2, 0, 1)[None].float()


def decoded(scores, size):
    return decode_labels(scores[0].permute(1, 2, 0).contiguous().numpy(), size)


def test_key_frame_is_the_per_frame_network(model, frames, no_grad):
    predictor = TorchPredictor(model, FRAME_SIZE)

    labels = predictor.predict(predictor.extract(frames[0]), None)

    expected = decoded(model.eval().recognize(tensor(frames[0], FRAME_SIZE)), (50, 90))
    assert np.array_equal(labels, expected)
    assert len(np.unique(labels)) > 1


def test_other_frames_are_propagated_from_the_key_frame(model, frames, no_grad):
    predictor = TorchPredictor(model, FRAME_SIZE)
    key, current = frames

    labels = predictor.predict(predictor.extract(key), current)

    model.eval()
    features = model.extract(tensor(key, FRAME_SIZE))
    flow, scale = model.estimate_flow(tensor(key, (16, 32)), tensor(current, (16, 32)))
    expected = decoded(model.task(warp_features(features, flow, scale)), (50, 90))
    assert np.array_equal(labels, expected)
    assert flow.abs().max() > 0.5
    for other in (features, warp_features(features, flow, None), features * scale):
        assert not np.array_equal(labels, decoded(model.task(other), (50, 90)))


def test_a_key_outlives_later_frames(model, frames):
    predictor = TorchPredictor(model, FRAME_SIZE)
    key = predictor.extract(frames[0])
    before = predictor.predict(key, frames[1])
    predictor.extract(frames[1])

    assert np.array_equal(predictor.predict(key, frames[1]), before)


def test_copied_features_are_zero_flow_and_scale_one(model, frames, no_grad, monkeypatch):
    key, current = frames
    copying = TorchPredictor(model, FRAME_SIZE, copies_features=True)
    labels = copying.predict(copying.extract(key), current)

    def nothing_moves(key_half, current_half):
        return torch.zeros(1, 2, 2, 4), torch.ones(1, 8, 2, 4), None

    monkeypatch.setattr(model, "move", nothing_moves)
    plain = TorchPredictor(model, FRAME_SIZE)
    assert np.array_equal(labels, plain.predict(plain.extract(key), current))


def test_answer_has_the_size_of_its_own_frame(model, frames):
    predictor = TorchPredictor(model, FRAME_SIZE)
    smaller = cv2.resize(frames[1], (41, 23))

    assert predictor.predict(predictor.extract(frames[0]), smaller).shape == (23, 41)


def test_model_is_used_in_evaluation_mode(model, frames):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.train()

    predictor = TorchPredictor(model, FRAME_SIZE)
    predictor.predict(predictor.extract(frames[0]), frames[1])

    assert not model.training
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
