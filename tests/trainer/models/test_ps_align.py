"""Position-sensitive pooling against its definition, sample by sample."""

import numpy as np
import pytest
import torch

from dff_edge.errors import ShapeError
from dff_edge.trainer.models.ps_align import position_sensitive_vote

ATOL = 1e-5  # float32, means of a few dozen values near 1


def interpolated(plane, u, v):
    """The bilinear value at column u and row v, clamped to the map, as a double sum over cells."""
    h, w = plane.shape
    u, v = np.clip(u, 0, w - 1), np.clip(v, 0, h - 1)
    weight_x = np.maximum(0, 1 - abs(np.arange(w) - u))
    weight_y = np.maximum(0, 1 - abs(np.arange(h) - v))
    return weight_y @ plane @ weight_x


def vote_by_definition(maps, box, k):
    x1, y1, x2, y2 = box
    outputs = len(maps) // k**2
    votes = np.zeros(outputs)
    for i, j, t, s, d in np.ndindex(k, k, 2, 2, outputs):
        u = x1 / 16 - 0.5 + (j + (s + 0.5) / 2) * (x2 - x1) / 16 / k
        v = y1 / 16 - 0.5 + (i + (t + 0.5) / 2) * (y2 - y1) / 16 / k
        votes[d] += interpolated(maps[(i * k + j) * outputs + d], u, v) / (4 * k**2)
    return votes


@pytest.mark.parametrize(("k", "size"), [(3, (5, 7)), (2, (1, 4)), (1, (3, 2))])
def test_matches_definition(rng, k, size):
    maps = rng.standard_normal((k * k * 3, *size))
    frame = np.array([size[1], size[0]] * 2) * 16
    low, high = np.sort(rng.uniform(0, 1, (2, 6, 2)), axis=0)
    boxes = np.concatenate([low, high], axis=1) * frame
    boxes[0] = [0, 0, *frame[:2]]  # its outer samples lie outside the cell centres
    boxes[1] = [0, 0, 3, 2]

    votes = position_sensitive_vote(torch.from_numpy(maps), torch.from_numpy(boxes), k, 16)

    expected = [vote_by_definition(maps, box, k) for box in boxes]
    np.testing.assert_allclose(votes.numpy(), expected, rtol=0, atol=ATOL)


def test_samples_are_at_quarters_of_a_bin():
    """One bin over the cells of a ramp: 1/4 and 3/4 of its width, about the cell centres."""
    ramp = torch.arange(4.0).expand(1, 1, 4)
    wave = ramp**2  # the mean of the samples differs from the sample of the mean

    votes = position_sensitive_vote(
        torch.cat([ramp, wave]), torch.tensor([[16.0, 0, 48, 16]]), 1, 16
    )

    # From 1 to 3 cells; samples at 1.5 and 2.5 cells, at the centres of cells 1 and 2.
    assert votes[0].tolist() == pytest.approx([1.5, (1 + 4) / 2])


def test_gradient_reaches_the_bins_own_maps_only():
    maps = torch.zeros(4 * 2, 4, 4, requires_grad=True)  # 2 x 2 bins, 2 outputs

    position_sensitive_vote(maps, torch.tensor([[0.0, 0, 64, 64]]), 2, 16)[0, 1].backward()

    reached = maps.grad.flatten(1).count_nonzero(dim=1).tolist()
    assert reached == [0, 4] * 4
    upper_right = maps.grad[1 * 2 + 1]  # bin row 0, bin column 1, output 1
    assert upper_right[:2, 2:].count_nonzero() == 4


def test_no_boxes_give_no_votes_and_a_gradient_of_zero():
    maps = torch.zeros(4, 4, 4, requires_grad=True)

    votes = position_sensitive_vote(maps, torch.zeros(0, 4), 2, 16)
    votes.sum().backward()

    assert votes.shape == (0, 1)
    assert not maps.grad.any()


def test_maps_of_other_bins_are_refused():
    with pytest.raises(ShapeError, match=r"\(5, 4, 4\), expected \(n \* 4, h, w\) for 2 x 2 bins"):
        position_sensitive_vote(torch.zeros(5, 4, 4), torch.zeros(1, 4), 2, 16)


def test_boxes_of_another_shape_are_refused():
    with pytest.raises(ShapeError, match=r"boxes has shape \(1, 5\), expected \(R, 4\)"):
        position_sensitive_vote(torch.zeros(4, 4, 4), torch.zeros(1, 5), 2, 16)
