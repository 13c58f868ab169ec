"""Box coding by hand, there and back; IoU against the runtime's."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dff_edge import boxes as runtime_boxes
from dff_edge.trainer.models.box_coding import (
    BOX_STDS,
    PROPOSAL_STDS,
    clip_boxes,
    decode,
    encode,
    iou_matrix,
    share_inside,
)

CORNERS = st.integers(-500, 500)
SIDES = st.floats(1, 800, width=32)
BOX = st.tuples(CORNERS, CORNERS, SIDES, SIDES).map(
    lambda b: [b[0], b[1], b[0] + b[2], b[1] + b[3]]
)


def test_encoded_by_hand():
    # The centre moves from (5, 10) to (9, 10), the width from 10 to 20, the height stays 20.
    deltas = encode(torch.tensor([[-1.0, 0, 19, 20]]), torch.tensor([[0.0, 0, 10, 20]]), BOX_STDS)

    assert deltas[0].tolist() == pytest.approx([0.4 / 0.1, 0, np.log(2) / 0.2, 0])


@settings(deadline=None, max_examples=50)  # the first call of an operator takes long
@given(box=BOX, reference=BOX)
def test_decoding_undoes_encoding(box, reference):
    box, reference = torch.tensor([box]), torch.tensor([reference])

    back = decode(encode(box, reference, PROPOSAL_STDS), reference, PROPOSAL_STDS)

    # Growth is limited to 62.5: what grows more keeps its centre and is cut.
    grows = (box[:, 2:] - box[:, :2]) / (reference[:, 2:] - reference[:, :2])
    if (grows < 62).all():
        torch.testing.assert_close(back, box, rtol=1e-4, atol=0.05)


def test_growth_is_limited():
    deltas = torch.tensor([[0.0, 0, 1e9, float("inf")]])

    box = decode(deltas, torch.tensor([[0.0, 0, 2, 4]]), BOX_STDS)[0]

    assert (box[2] - box[0], box[3] - box[1]) == pytest.approx((125, 250))


def test_boxes_are_cut_at_all_four_borders():
    cut = clip_boxes(torch.tensor([[-5.0, -6, 70, 40], [80, 3, 90, 4]]), (32, 64))

    assert cut.tolist() == [[0, 0, 64, 32], [64, 3, 64, 4]]


def test_iou_is_the_runtimes(rng):
    boxes, others = (
        np.concatenate([corners, corners + sides], axis=1).astype(np.float32)
        for corners, sides in (
            (rng.integers(0, 9, (n, 2)), rng.integers(0, 6, (n, 2))) for n in (7, 11)
        )
    )

    iou = iou_matrix(torch.from_numpy(boxes), torch.from_numpy(others)).numpy()

    np.testing.assert_allclose(iou, runtime_boxes.iou_matrix(boxes, others), rtol=1e-6)


def test_share_inside_by_hand():
    boxes = torch.tensor([[0.0, 0, 4, 4], [3, 3, 3, 9]])
    regions = torch.tensor([[2.0, 0, 100, 100], [-9, -9, 9, 9]])

    assert share_inside(boxes, regions).tolist() == [[0.5, 1.0], [0.0, 0.0]]
