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
