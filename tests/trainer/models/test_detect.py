"""Detection from hand-made maps, and against a naive search in random ones."""

import numpy as np
import pytest
import torch

from dff_edge.boxes import iou_matrix
from dff_edge.bundle.rfcn import RfcnSettings
from dff_edge.trainer.models import RfcnMaps, detect
from dff_edge.trainer.models.box_coding import BOX_STDS, clip_boxes, decode
from dff_edge.trainer.models.proposals import anchor_boxes, per_anchor, propose
from dff_edge.trainer.models.ps_align import position_sensitive_vote

MAP_SIZE, FRAME_SIZE = (4, 6), (64, 96)
SETTINGS = RfcnSettings(
    bins=2,
    anchor_scales=(2,),
    anchor_ratios=(1,),
    proposals=20,
    proposal_nms=0.5,
    min_score=0.3,
    nms=0.4,
    detections=7,
)


@pytest.fixture
def empty():
    """Maps of one frame with two classes: everything is background, nothing moves."""
    h, w = MAP_SIZE
    maps = RfcnMaps(*(torch.zeros(1, n, h, w) for n in (1, 4, 4 * 3, 4 * 4)))
    maps.class_maps[:, 0::3] = 10
    return maps


def test_one_object_by_hand(empty):
    """The anchor of cell (2, 3), 32 px about (56, 40), moved to the right by its first delta."""
    empty.objectness[0, 0, 2, 3] = 5
    empty.deltas[0, 0, 2, 3] = 2.5  # times 0.1 times 32 px: 8 px
    empty.class_maps[0, 2::3, 1:4, 2:6] = 12  # the second class, in all bins
    empty.box_maps[0, 3::4] = np.log(1.5) / 0.2  # half as high again

    (found,) = detect(empty, FRAME_SIZE, SETTINGS.model_copy(update={"proposals": 1}))

    # The proposal is (48, 24, 80, 56); its samples lie between cells (1, 2) and (3, 5).
    assert found.boxes.tolist() == [pytest.approx([48, 16, 80, 64])]
    assert found.labels.tolist() == [1]
    assert found.scores[0] == pytest.approx(np.exp(2) / (np.exp(2) + 1 + np.exp(-10)), rel=1e-4)


def test_nothing_is_found_in_background(empty):
    (found,) = detect(empty, FRAME_SIZE, SETTINGS)

    assert len(found) == 0
    assert (found.boxes.shape, found.labels.dtype) == ((0, 4), np.int32)


def test_detections_are_those_of_a_naive_search(rng):
    maps = RfcnMaps(
        *(
            torch.from_numpy(rng.normal(0, 3, (2, n, *MAP_SIZE)).astype(np.float32))
            for n in (1, 4, 4 * 3, 4 * 4)
        )
    )

    found = detect(maps, FRAME_SIZE, SETTINGS)

    anchors = anchor_boxes(MAP_SIZE, SETTINGS, 16)
    logits, deltas = per_anchor(maps.objectness, maps.deltas)
    for n, detections in enumerate(found):
        proposals = propose(logits[n], deltas[n], anchors, FRAME_SIZE, SETTINGS)
        votes = position_sensitive_vote(maps.class_maps[n], proposals, 2, 16).softmax(1)
        shifts = position_sensitive_vote(maps.box_maps[n], proposals, 2, 16)
        boxes = clip_boxes(decode(shifts, proposals, BOX_STDS), FRAME_SIZE).numpy()
        expected = []
        for k in (0, 1):
            kept = []
            for p in sorted(range(len(boxes)), key=lambda p: (-votes[p, k + 1].item(), p)):
                overlaps = [iou_matrix(boxes[p : p + 1], boxes[q : q + 1]) > 0.4 for q in kept]
                if votes[p, k + 1] >= 0.3 and not any(overlaps):
                    kept.append(p)
            expected += [(-votes[p, k + 1].item(), k, p) for p in kept]
        expected.sort()
        assert len(expected) > 7  # so that the limit binds
        assert detections.labels.tolist() == [k for _, k, _ in expected[:7]]
        np.testing.assert_allclose(detections.scores, [-s for s, _, _ in expected[:7]], rtol=1e-5)
        np.testing.assert_allclose(detections.boxes, boxes[[p for _, _, p in expected[:7]]])


def test_equal_scores_are_ordered_by_class_and_then_proposal(empty):
    settings = SETTINGS.model_copy(update={"proposals": 30, "nms": 1.0, "detections": 60})
    empty.objectness[0, 0] = torch.arange(24.0).view(MAP_SIZE)  # the last cell's anchor is best
    empty.class_maps[:] = 0

    (found,) = detect(empty, FRAME_SIZE, settings)

    logits, deltas = per_anchor(empty.objectness, empty.deltas)
    anchors = anchor_boxes(MAP_SIZE, settings, 16)
    proposals = propose(logits[0], deltas[0], anchors, FRAME_SIZE, settings).numpy()
    assert found.labels.tolist() == [0] * len(proposals) + [1] * len(proposals)
    np.testing.assert_allclose(found.boxes, np.concatenate([proposals] * 2), atol=1e-4)
    assert len(proposals) > 3
