"""Losses against numbers by hand and against their definitions in numpy."""

import math

import numpy as np
import pytest
import torch

from dff_edge.runtime.kernels.decode import decode_labels
from dff_edge.trainer.losses import (
    end_point_error,
    flow_loss,
    score_divergence,
    segmentation_loss,
    unexplained_variance,
)

RTOL = 1e-5  # float32, a few hundred products and sums


def by_definition(scores, labels, weights=None):
    """Softmax loss of scores (N, K, H, W) at the labels' size, pixel by pixel."""
    total = norm = 0.0
    for n, y, x in np.ndindex(labels.shape):
        label = labels[n, y, x]
        if label != 255:
            line = scores[n, :, y, x].astype(float)
            weight = 1.0 if weights is None else weights[label]
            total += weight * (np.log(np.exp(line).sum()) - line[label])
            norm += weight
    return total / norm


@pytest.fixture
def scores(rng):
    return torch.from_numpy(rng.standard_normal((2, 3, 5, 7)).astype(np.float32))


@pytest.fixture
def labels(rng):
    labels = rng.integers(0, 3, (2, 5, 7)).astype(np.uint8)
    labels[:, 1] = 255
    return labels


def upsampled(scores, size):
    """The inputs of the loss, caught where it computes its cross entropy."""
    seen = []

    def keep(full, *_arguments, **_options):
        seen.append(full)
        return full.sum()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dff_edge.trainer.losses.functional.cross_entropy", keep)
        segmentation_loss(scores, torch.zeros((len(scores), *size), dtype=torch.uint8))
    return seen[0]


# ---- segmentation


def test_segmentation_loss_by_hand():
    scores = torch.tensor([2.0, 0.0]).view(1, 2, 1, 1).expand(1, 2, 2, 2)
    labels = torch.tensor([[[0, 1], [255, 0]]], dtype=torch.uint8)

    loss = segmentation_loss(scores, labels)

    right, wrong = np.log1p(np.exp(-2)), np.log1p(np.exp(2))
    assert loss.item() == pytest.approx((2 * right + wrong) / 3, rel=RTOL)


@pytest.mark.parametrize("weights", [None, [1.0, 0.0, 2.5]])
def test_segmentation_loss_is_its_definition(scores, labels, weights):
    tensor = None if weights is None else torch.tensor(weights)

    loss = segmentation_loss(scores, torch.from_numpy(labels), tensor)

    assert loss.item() == pytest.approx(by_definition(scores.numpy(), labels, weights), rel=RTOL)


def test_ignored_pixels_have_no_gradient(scores, labels):
    scores.requires_grad_(True)

    segmentation_loss(scores, torch.from_numpy(labels)).backward()

    assert (scores.grad[:, :, 1] == 0).all()
    assert (scores.grad[:, :, 0] != 0).all()


def test_batch_without_a_scored_pixel_is_zero_with_zero_gradient(scores):
    scores.requires_grad_(True)

    loss = segmentation_loss(scores, torch.full((2, 10, 14), 255, dtype=torch.uint8))
    loss.backward()

    assert loss.item() == 0
    assert (scores.grad == 0).all()


def test_batch_of_a_class_without_weight_is_zero_with_zero_gradient(scores):
    scores.requires_grad_(True)
    labels = torch.full((2, 10, 14), 1, dtype=torch.uint8)

    loss = segmentation_loss(scores, labels, torch.tensor([1.0, 0.0, 2.5]))
    loss.backward()

    assert loss.item() == 0
    assert (scores.grad == 0).all()


@pytest.mark.parametrize("size", [(80, 112), (5, 7), (33, 50)])
def test_scores_are_upsampled_as_decoding_does_it(scores, size):
    full = upsampled(scores, size)

    for n in range(2):
        decoded = decode_labels(scores[n].permute(1, 2, 0).contiguous().numpy(), size)
        top = full[n].topk(2, dim=0).values
        is_clear = (top[0] - top[1] > 1e-5).numpy()  # rounding decides a tie
        assert is_clear.mean() > 0.999
        assert np.array_equal(full[n].argmax(0).numpy()[is_clear], decoded[is_clear])


# ---- flow


def test_flow_loss_by_hand():
    """Errors (3, 4) and (0, 1) at one scale, (6, 8) at the other: means 3 and 10."""
    truth = torch.zeros(1, 2, 1, 2)
    fine = torch.tensor([[3.0, 0.0], [4.0, 1.0]]).view(1, 2, 1, 2)
    coarse = torch.tensor([6.0, 8.0]).view(1, 2, 1, 1)

    assert flow_loss([coarse, fine], truth).item() == pytest.approx((10 + 3) / 2, rel=1e-4)
    assert end_point_error(fine, truth).item() == pytest.approx(3, rel=RTOL)


def test_truth_is_averaged_over_the_cells_of_a_prediction(rng):
    truth = rng.standard_normal((2, 2, 6, 8)).astype(np.float32)
    prediction = rng.standard_normal((2, 2, 3, 4)).astype(np.float32)
    target = truth.reshape(2, 2, 3, 2, 4, 2).mean(axis=(3, 5))
    expected = np.sqrt(((prediction - target) ** 2).sum(axis=1)).mean()

    arguments = torch.from_numpy(prediction), torch.from_numpy(truth)

    assert end_point_error(*arguments).item() == pytest.approx(expected, rel=RTOL)
    assert flow_loss([arguments[0]], arguments[1]).item() == pytest.approx(expected, rel=1e-4)


def test_cells_with_nan_do_not_count():
    truth = torch.zeros(1, 2, 2, 4)
    truth[0, 1, 0, 3] = float("nan")  # in the right one of two cells
    prediction = torch.tensor([[3.0, 50.0], [4.0, 50.0]]).view(1, 2, 1, 2).requires_grad_(True)

    loss = flow_loss([prediction], truth)
    loss.backward()

    assert loss.item() == pytest.approx(5, rel=1e-4)
    assert end_point_error(prediction, truth).item() == pytest.approx(5, rel=RTOL)
    assert prediction.grad[0, :, 0, 0].tolist() == pytest.approx([0.6, 0.8], rel=1e-4)
    assert prediction.grad[0, :, 0, 1].tolist() == [0, 0]


def test_no_known_cell_is_zero_with_zero_gradient():
    prediction = torch.ones(1, 2, 2, 2, requires_grad=True)

    loss = flow_loss([prediction], torch.full((1, 2, 4, 4), float("nan")))
    loss.backward()

    assert loss.item() == 0
    assert (prediction.grad == 0).all()


def test_right_flow_has_a_finite_gradient():
    prediction = torch.zeros(1, 2, 2, 2, requires_grad=True)

    flow_loss([prediction], torch.zeros(1, 2, 4, 4)).backward()

    assert torch.isfinite(prediction.grad).all()


def test_diverged_prediction_is_not_hidden():
    prediction = torch.full((1, 2, 2, 2), float("nan"))

    assert torch.isnan(flow_loss([prediction], torch.zeros(1, 2, 4, 4)))


def test_score_divergence_by_hand():
    """Two cells of two classes: KL((3/4, 1/4) || (1/2, 1/2)) and none where they are equal."""
    target = torch.tensor([[3.0, 1.0], [1.0, 1.0]]).log().T.reshape(1, 2, 1, 2)
    scores = torch.zeros(1, 2, 1, 2, requires_grad=True)

    loss = score_divergence(scores, target)
    loss.backward()

    expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert loss.item() == pytest.approx(expected / 2)
    # Softmax less target, a mean over two cells.
    assert scores.grad.flatten().tolist() == pytest.approx([-0.125, 0, 0.125, 0])


def test_unexplained_variance_by_hand():
    """Channel 0: squared errors 0 and 4 over the variance 4; channel 1 is right."""
    target = torch.tensor([[1.0, 5.0], [30.0, 10.0]]).reshape(1, 2, 1, 2)
    maps = torch.tensor([[1.0, 3.0], [30.0, 10.0]]).reshape(1, 2, 1, 2)

    assert unexplained_variance(maps, target).item() == pytest.approx((4 / 2 / 4 + 0) / 2)
    assert unexplained_variance(target, target) == 0


def test_unexplained_variance_is_one_for_the_mean_whatever_the_unit():
    target = torch.randn(2, 3, 4, 5) * torch.tensor([1e-1, 1, 1e3]).reshape(1, 3, 1, 1)
    mean = target.mean(dim=(0, 2, 3), keepdim=True).expand_as(target)

    assert unexplained_variance(mean, target).item() == pytest.approx(1, abs=1e-3)


def test_unexplained_variance_of_a_constant_channel_is_finite():
    assert torch.isfinite(unexplained_variance(torch.ones(1, 1, 2, 2), torch.zeros(1, 1, 2, 2)))
