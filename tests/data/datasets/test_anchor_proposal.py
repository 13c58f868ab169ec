"""Anchors that fit the boxes of one's data."""

import numpy as np
import pytest

from dff_edge.boxes import TrueBoxes
from dff_edge.bundle.anchors import anchor_sizes
from dff_edge.bundle.rfcn import RfcnSettings
from dff_edge.data.datasets.anchor_proposal import (
    GOOD_OVERLAP,
    box_shares,
    overlaps,
    propose_anchors,
)


def settings_of(proposal):
    return RfcnSettings(anchor_scales=proposal.scales, anchor_ratios=proposal.ratios)


def around(rng, scales, ratios, count=200, spread=0.05):
    """Boxes of each pair of a scale and a ratio."""
    pairs = np.array([(s, r) for s in scales for r in ratios])
    side, ratio = np.repeat(pairs, count, axis=0).T * np.exp(rng.normal(0, spread, 2)[:, None])
    noise = np.exp(rng.normal(0, spread, (2, len(side))))
    return np.float32(np.stack([side / np.sqrt(ratio), side * np.sqrt(ratio)], axis=1) * noise.T)


def test_scales_and_ratios_of_boxes_are_found():
    rng = np.random.default_rng(3)
    boxes = around(rng, (24, 96, 400), (0.5, 2.0))

    proposal = propose_anchors(boxes)

    assert np.allclose(proposal.scales, np.array([24, 96, 400]) / 16, rtol=0.15)
    assert np.allclose(proposal.ratios, (0.5, 2.0), rtol=0.15)
    assert proposal.overlap > GOOD_OVERLAP


def test_the_overlap_is_that_of_the_anchors_that_the_line_makes():
    boxes = np.float32(np.exp(np.random.default_rng(0).normal(4, 0.8, (500, 2))))
    proposal = propose_anchors(boxes)
    anchors = anchor_sizes(settings_of(proposal))

    by_hand = []
    for width, height in boxes:
        ious = []
        for w, h in anchors:
            shared = min(width, w) * min(height, h)
            ious.append(shared / (width * height + w * h - shared))
        by_hand.append(max(ious))

    assert proposal.overlap == pytest.approx(np.mean(by_hand), abs=1e-5)
    assert overlaps(boxes, anchors).max(axis=1).mean() == pytest.approx(proposal.overlap)


def test_they_overlap_more_than_the_papers_and_than_any_shift_of_themselves():
    boxes = np.float32(np.exp(np.random.default_rng(1).normal((3.2, 2.9), (0.4, 0.3), (800, 2))))
    proposal = propose_anchors(boxes)

    def overlap(scales, ratios):
        settings = RfcnSettings(anchor_scales=scales, anchor_ratios=ratios)
        return overlaps(boxes, anchor_sizes(settings)).max(axis=1).mean()

    assert overlap((8, 16, 32), (0.5, 1, 2)) < 0.2
    for factor in (0.7, 1.4):
        scales = tuple(factor * scale for scale in proposal.scales)
        assert overlap(scales, proposal.ratios) < proposal.overlap


def test_the_fewest_anchors_that_are_enough():
    assert propose_anchors(np.float32([[32, 32]] * 9)).line == (
        "rfcn: {anchor_scales: [2], anchor_ratios: [1]}"
    )
    assert propose_anchors(np.zeros((0, 2), np.float32)) is None
    wide = np.float32(np.exp(np.random.default_rng(2).uniform(0, 8, (2000, 2))))
    assert len(anchor_sizes(settings_of(propose_anchors(wide)))) <= 15


class Clip:
    def __init__(self, boxes, ignored, size):
        self.truth = TrueBoxes(np.float32(boxes), np.int32([0] * len(boxes)), ignored, size)

    def __len__(self):
        return 2

    def is_labelled(self, index):
        return index == 1

    def boxes(self, index):
        return self.truth


def test_sizes_are_shares_of_the_frames_that_the_annotations_state():
    boxes = [[0, 0, 10, 20], [5, 5, 25, 15], [7, 7, 7, 9]]
    known = Clip(boxes, np.array([False, True, False]), (40, 100))
    unknown = Clip(boxes, np.array([False] * 3), None)

    assert np.allclose(box_shares([known, unknown]), [[0.1, 0.5]])
