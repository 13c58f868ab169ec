"""Anchors as the reference has them, and proposals against a naive search."""

import numpy as np
import pytest
import torch

from dff_edge.boxes import iou_matrix
from dff_edge.bundle.rfcn import RfcnSettings
from dff_edge.trainer.models.box_coding import PROPOSAL_STDS, clip_boxes, decode
from dff_edge.trainer.models.proposals import anchor_boxes, per_anchor, propose

SMALL = RfcnSettings(anchor_scales=(1, 2), proposals_before_nms=60, proposals=12, proposal_nms=0.5)
MAP_SIZE, FRAME_SIZE = (3, 5), (48, 80)


def test_first_cell_has_the_nine_anchors_of_the_reference():
    """Of Faster R-CNN, with maxima that count the last pixel, for a base of 16 px at (0, 0)."""
    inclusive = [
        [-84, -40, 99, 55],
        [-176, -88, 191, 103],
        [-360, -184, 375, 199],
        [-56, -56, 71, 71],
        [-120, -120, 135, 135],
        [-248, -248, 263, 263],
        [-36, -80, 51, 95],
        [-80, -168, 95, 183],
        [-168, -344, 183, 359],
    ]

    anchors = anchor_boxes((2, 3), RfcnSettings(), 16)

    assert anchors[:9].tolist() == (np.array(inclusive) + [0, 0, 1, 1]).tolist()


def test_anchors_follow_the_cells_row_by_row():
    anchors = anchor_boxes(MAP_SIZE, SMALL, 16).view(*MAP_SIZE, SMALL.anchors, 4)

    shifted = anchors[0, 0] + torch.tensor([4 * 16.0, 2 * 16, 4 * 16, 2 * 16])
    assert torch.equal(anchors[2, 4], shifted)


def test_maps_line_up_with_the_anchors():
    a, (h, w) = SMALL.anchors, MAP_SIZE
    numbers = torch.arange(h * w * a).view(h, w, a).permute(2, 0, 1)[None].float()
    parts = torch.stack([numbers + part / 4 for part in range(4)], dim=2).flatten(1, 2)

    logits, deltas = per_anchor(numbers, parts)

    assert logits[0].tolist() == list(range(h * w * a))
    assert deltas[0, 7].tolist() == [7, 7.25, 7.5, 7.75]


@pytest.fixture
def maps(rng):
    count = len(anchor_boxes(MAP_SIZE, SMALL, 16))
    logits = torch.from_numpy(rng.integers(0, 30, count).astype(np.float32))  # with ties
    deltas = torch.from_numpy(rng.normal(0, 5, (count, 4)).astype(np.float32))
    return logits, deltas


@pytest.mark.parametrize(
    ("before", "after"), [(60, 12), (20, 60)], ids=["few are left", "few enter"]
)
def test_proposals_are_those_of_a_naive_search(maps, before, after):
    logits, deltas = maps
    settings = SMALL.model_copy(update={"proposals_before_nms": before, "proposals": after})
    anchors = anchor_boxes(MAP_SIZE, SMALL, 16)

    found = propose(logits, deltas, anchors, FRAME_SIZE, settings)

    ranked = sorted(range(len(anchors)), key=lambda n: (-logits[n].item(), n))[:before]
    kept = []
    for n in ranked:
        box = clip_boxes(decode(deltas[n], anchors[n], PROPOSAL_STDS), FRAME_SIZE).numpy()
        is_empty = box[0] >= box[2] or box[1] >= box[3]
        if not is_empty and all(iou_matrix(box[None], k[None])[0, 0] <= 0.5 for k in kept):
            kept.append(box)
    assert before == 20 or len(kept) > after  # so that the limit binds
    np.testing.assert_allclose(found.numpy(), kept[:after], rtol=1e-5, atol=1e-4)


def test_nan_is_never_proposed(maps):
    """As if its anchors were not there."""
    logits, deltas = maps
    settings = SMALL.model_copy(update={"proposals": 60})  # all that suppression leaves
    anchors = anchor_boxes(MAP_SIZE, SMALL, 16)
    is_known = torch.arange(len(anchors)) % 3 == 0
    logits[torch.arange(len(anchors)) % 3 == 1] = float("nan")
    deltas[torch.arange(len(anchors)) % 3 == 2, 2] = float("nan")

    found = propose(logits, deltas, anchors, FRAME_SIZE, settings)

    known = propose(logits[is_known], deltas[is_known], anchors[is_known], FRAME_SIZE, settings)
    assert len(known) > 0
    assert torch.equal(found, known)


def test_nothing_but_nan_gives_no_proposal(maps):
    logits, deltas = maps

    found = propose(
        logits * float("nan"), deltas, anchor_boxes(MAP_SIZE, SMALL, 16), FRAME_SIZE, SMALL
    )

    assert found.shape == (0, 4)
