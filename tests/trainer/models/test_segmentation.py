"""The segmentation head."""

from __future__ import annotations

import pytest
import torch

from dff_edge.trainer.models import SegmentationHead


def test_scores_are_one_weighted_sum_per_class():
    head = SegmentationHead(4, 3)
    features = torch.arange(4.0 * 5 * 7).view(1, 4, 5, 7)

    scores = head(features)

    weight = head.score.weight[:, :, 0, 0]
    torch.testing.assert_close(scores[0, :, 2, 3], weight @ features[0, :, 2, 3])


def test_weights_start_small_and_bias_at_zero():
    head = SegmentationHead(1024, 20)

    assert float(head.score.weight.detach().std()) == pytest.approx(0.01, rel=0.05)
    assert not bool(head.score.bias.any())


def test_constant_features_change_scores_only_where_they_are_scaled_apart():
    head = SegmentationHead(6, 5, constants=4)
    plain = torch.randn(1, 2, 1, 3)
    scale = torch.tensor([[1.0, 0.0, 1.0], [1, 0, 0], [1, 0, 0], [1, 0, 0]])

    scores = head(torch.cat([plain, scale.view(1, 4, 1, 3)], dim=1))

    alone = head(torch.cat([plain, torch.zeros(1, 4, 1, 3)], dim=1))
    torch.testing.assert_close(scores[..., :2], alone[..., :2], atol=1e-5, rtol=0)
    # A direction of length 4, less its mean over four orthogonal ones.
    change = (scores - alone)[0, :, 0, 2].square().sum()
    torch.testing.assert_close(change, torch.tensor(16.0 * (1 - 1 / 4)), atol=1e-3, rtol=0)
