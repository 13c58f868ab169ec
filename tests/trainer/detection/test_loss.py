"""The losses of R-FCN against their definitions."""

import numpy as np
import pytest
import torch

from dff_edge.bundle.rfcn import RfcnSettings
from dff_edge.errors import ConfigError
from dff_edge.trainer.detection.loss import detection_loss, hard_example_losses
from dff_edge.trainer.models import RfcnMaps
from dff_edge.trainer.models.proposals import anchor_boxes

SETTINGS = RfcnSettings(
    bins=2, anchor_scales=(1,), anchor_ratios=(1,), proposals_before_nms=12, proposals=6
)
MAP_SIZE, FRAME_SIZE, CLASSES = (3, 4), (48, 64), 2


def rows(*boxes):
    return torch.tensor(boxes, dtype=torch.float32).view(-1, 4)


BOXES = [rows([2, 2, 18, 18], [30, 10, 60, 40]), rows(), rows([16, 16, 32, 32])]
LABELS = [torch.tensor(labels, dtype=torch.int64) for labels in ([0, 1], [], [-1])]


@pytest.fixture
def maps(rng):
    depths = (1, 4, 4 * (CLASSES + 1), 4 * 4)
    return RfcnMaps(
        *(torch.from_numpy(rng.normal(0, 1, (3, n, *MAP_SIZE)).astype(np.float32)) for n in depths)
    )


def losses_of(maps, frames, **changes):
    chosen = RfcnMaps(*(tensor[frames] for tensor in maps))
    boxes, labels = [BOXES[n] for n in frames], [LABELS[n] for n in frames]
    options = {"hard_examples": 4, "step": 3} | changes
    return detection_loss(chosen, FRAME_SIZE, SETTINGS, boxes, labels, **options)


def smooth_l1(x):
    return np.where(abs(x) < 1, 0.5 * x**2, abs(x) - 0.5)


def test_hardest_boxes_by_definition(rng):
    votes, shifts, wanted = (rng.normal(0, 2, (9, n)) for n in (3, 4, 4))
    classes = np.array([0, 1, 2, -1, 0, 2, -1, 0, 1])

    found = hard_example_losses(*(torch.from_numpy(a) for a in (votes, shifts, classes, wanted)), 4)

    both = []
    for n in range(9):
        if classes[n] >= 0:
            softmax = np.log(np.exp(votes[n]).sum()) - votes[n, classes[n]]
            box = smooth_l1(shifts[n] - wanted[n]).sum() if classes[n] else 0.0
            both.append((softmax + box, softmax, box))
    hardest = sorted(both, reverse=True)[:4]
    assert [loss.item() for loss in found] == pytest.approx(
        [np.mean([h[1] for h in hardest]), np.mean([h[2] for h in hardest])]
    )


def test_fewer_boxes_than_wanted_are_a_mean_over_those_there_are():
    votes = torch.zeros(2, 4)

    loss, _ = hard_example_losses(
        votes, torch.zeros(2, 4), torch.tensor([0, -1]), torch.zeros(2, 4), 128
    )

    assert loss.item() == pytest.approx(np.log(4))


def test_no_box_gives_a_loss_of_zero_with_a_gradient():
    votes = torch.zeros(0, 4, requires_grad=True)

    loss, box_loss = hard_example_losses(
        votes, torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0, 4), 128
    )

    assert (loss.item(), box_loss.item()) == (0, 0)
    assert loss.requires_grad


def test_anchors_by_definition(maps):
    """The first frame: every anchor inside it is sampled, for there are fewer than 256."""
    losses = losses_of(maps, [0])

    anchors = anchor_boxes(MAP_SIZE, SETTINGS, 16).numpy()
    logits = maps.objectness[0].flatten().numpy()
    deltas = maps.deltas[0].flatten(1).T.numpy()
    entropies, box_loss = [], 0.0
    for n, (x1, y1, x2, y2) in enumerate(anchors):
        # Cell 0 lies on the first box; cell 6, (1, 2), within the second one, as no other does.
        is_object = n in (0, 6)
        shared = (min(x2, 18) - max(x1, 2)) * (min(y2, 18) - max(y1, 2))
        assert n != 0 or shared / (2 * 256 - shared) > 0.6
        entropies.append(np.log1p(np.exp(-logits[n] if is_object else logits[n])))
        if is_object:
            tx1, ty1, tx2, ty2 = BOXES[0][0 if n == 0 else 1].numpy()
            wanted = np.array(
                [
                    (tx1 + tx2 - x1 - x2) / 2 / 16 / 0.1,
                    (ty1 + ty2 - y1 - y2) / 2 / 16 / 0.1,
                    np.log((tx2 - tx1) / 16) / 0.4,
                    np.log((ty2 - ty1) / 16) / 0.4,
                ]
            )
            box_loss += smooth_l1(deltas[n] - wanted).sum() / 256
    assert losses.rpn_class.item() == pytest.approx(np.mean(entropies), rel=1e-5)
    assert losses.rpn_box.item() == pytest.approx(box_loss, rel=1e-5)


def test_halves_of_a_batch_give_the_mean_of_the_whole(maps):
    """So that two devices train as one does with both batches."""
    whole = torch.stack(losses_of(maps, [0, 1, 2]))
    parts = torch.stack([torch.stack(losses_of(maps, [n])) for n in (0, 1, 2)])

    torch.testing.assert_close(whole, parts.mean(dim=0))
    assert (whole > 0).all()


def test_samples_follow_from_the_step_alone(maps, monkeypatch):
    """With 5 of 12 anchors sampled; the state of the global generator plays no part."""
    monkeypatch.setattr("dff_edge.trainer.detection.targets._SAMPLED", 5)
    first = losses_of(maps, [0, 1])
    torch.rand(3)

    assert torch.equal(torch.stack(losses_of(maps, [0, 1])), torch.stack(first))
    assert losses_of(maps, [0, 1], step=4).rpn_class != first.rpn_class


def test_boxes_in_64_bits_give_the_same(maps):
    """As they come where all of training is."""
    losses = detection_loss(
        maps,
        FRAME_SIZE,
        SETTINGS,
        [boxes.double() for boxes in BOXES],
        LABELS,
        hard_examples=4,
        step=3,
    )

    assert torch.equal(torch.stack(losses), torch.stack(losses_of(maps, [0, 1, 2])))


def test_ignored_region_is_no_background(maps):
    maps.objectness[2, 0, 1, 1] = 50  # an anchor that is the region; proposed with certainty

    assert losses_of(maps, [2]).rpn_class < 3


def test_every_map_gets_a_gradient_from_a_frame_without_boxes(maps):
    maps = RfcnMaps(*(tensor.requires_grad_() for tensor in maps))

    losses_of(maps, [1]).total().backward()

    assert all(tensor.grad is not None for tensor in maps)
    assert maps.class_maps.grad.any()
    assert not maps.box_maps.grad.any()


def test_empty_true_box_leaves_the_gradient_finite(maps):
    """It has no size, by which offsets are measured; the loss itself would not show the NaN."""
    maps.box_maps.requires_grad_()
    empty = rows([20, 10, 20, 30])

    losses = detection_loss(
        maps, FRAME_SIZE, SETTINGS, [empty] * 3, [torch.tensor([0])] * 3, hard_examples=99, step=3
    )

    (gradient,) = torch.autograd.grad(losses.total(), maps.box_maps)
    assert gradient.isfinite().all()


def test_nan_maps_give_a_loss_of_nan(maps):
    maps = RfcnMaps(*(tensor * float("nan") for tensor in maps))

    assert losses_of(maps, [0, 1]).total().isnan()


def test_anchors_that_never_fit_are_refused(maps):
    settings = SETTINGS.model_copy(update={"anchor_scales": (8.0,)})

    with pytest.raises(
        ConfigError, match=r"\(8\.0,\), of which no anchor lies within a fr.*48 x 6"
    ):
        detection_loss(maps, FRAME_SIZE, settings, BOXES, LABELS, hard_examples=4, step=0)
