"""The losses of R-FCN: objectness and boxes of the anchors, classes and boxes of the hardest.

Source: Dai et al., "R-FCN", NIPS 2016, section 2, with online hard example mining (Shrivastava et
    al., CVPR 2016); settings of the reference implementation of Deep Feature Flow.
Differs from it: hard examples are not thinned out by suppression, as in R-FCN's own code; which
    anchors are sampled depends on the step alone, so that a resumed run samples the same.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from dff_edge.bundle.rfcn import RfcnSettings
from dff_edge.errors import ConfigError
from dff_edge.trainer.detection.targets import UNCOUNTED, anchor_targets, box_targets, is_inside
from dff_edge.trainer.models.box_coding import BOX_STDS, PROPOSAL_STDS, encode
from dff_edge.trainer.models.proposals import anchor_boxes, per_anchor, propose
from dff_edge.trainer.models.ps_align import position_sensitive_vote
from dff_edge.trainer.models.rfcn import RfcnMaps

_SAMPLED_ANCHORS = 256


class DetectionLosses(NamedTuple):
    """Each a scalar, the mean over the frames of a batch.

    Attributes:
        rpn_class: binary cross entropy of the anchors that count.
        rpn_box: smooth-L1 of the deltas of those that are objects, over 256.
        classification: softmax loss of the hardest boxes.
        box: smooth-L1 of their deltas, those of the background being 0.
    """

    rpn_class: Tensor
    rpn_box: Tensor
    classification: Tensor
    box: Tensor

    def total(self) -> Tensor:
        """Return the loss that is trained, their sum."""
        return torch.stack(self).sum()


def detection_loss(
    maps: RfcnMaps,
    frame_size: tuple[int, int],
    settings: RfcnSettings,
    boxes: list[Tensor],
    labels: list[Tensor],
    *,
    hard_examples: int,
    step: int,
) -> DetectionLosses:
    """Compute the losses of a batch of frames.

    Losses are means over frames of means within a frame: averaging two halves of a batch equals
    the whole batch. The random order in which anchors are sampled is one for all frames, a
    function of ``step``.

    Args:
        maps: of N frames.
        frame_size: ``(H, W)`` in pixels.
        settings: of the head that made the maps.
        boxes: N tensors ``(T, 4)`` xyxy in pixels; T may be 0, and an empty box is not an object.
        labels: N tensors int64 ``(T,)``, 0..K-1, or -1 for an ignored region.
        hard_examples: number of boxes of a frame that count, those with the highest loss.
        step: optimiser steps done so far.

    Raises:
        ConfigError: no anchor fits into the frame, so that none could be trained.
    """
    maps = RfcnMaps(*(tensor.float() for tensor in maps))
    boxes = [of_frame.float() for of_frame in boxes]
    map_size = (maps.objectness.shape[2], maps.objectness.shape[3])
    stride = frame_size[0] // map_size[0]
    anchors = anchor_boxes(map_size, settings, stride, maps.objectness.device)
    if not is_inside(anchors, frame_size).any():
        raise ConfigError(
            f"anchor_scales is {settings.anchor_scales}, of which no anchor lies within a frame of "
            f"{frame_size[0]} x {frame_size[1]} px; only those are trained. Lower "
            "model.task.rfcn.anchor_scales, sides of the anchors in cells of 16 px."
        )
    order = torch.randperm(len(anchors), generator=torch.Generator().manual_seed(step))
    order = order.to(anchors.device)
    logits, deltas = per_anchor(maps.objectness, maps.deltas)
    losses = []
    for n in range(len(logits)):
        targets = anchor_targets(anchors, frame_size, boxes[n], labels[n], order)
        rpn_losses = _rpn_losses(logits[n], deltas[n], anchors, targets.is_object, targets.boxes)
        proposals = propose(logits[n], deltas[n], anchors, frame_size, settings)
        # True boxes too: at first no proposal overlaps them, and they would not be learned.
        is_true = (labels[n] >= 0) & (boxes[n][:, 2:] > boxes[n][:, :2]).all(dim=1)
        candidates = torch.cat([proposals, boxes[n][is_true]])
        votes = position_sensitive_vote(maps.class_maps[n], candidates, settings.bins, stride)
        shifts = position_sensitive_vote(maps.box_maps[n], candidates, settings.bins, stride)
        wanted = box_targets(candidates, boxes[n], labels[n])
        wanted_shifts = encode(wanted.boxes, candidates, BOX_STDS)
        losses.append(
            rpn_losses
            + hard_example_losses(votes, shifts, wanted.classes, wanted_shifts, hard_examples)
        )
    return DetectionLosses(*(torch.stack(loss).mean() for loss in zip(*losses, strict=True)))


def hard_example_losses(
    votes: Tensor, shifts: Tensor, classes: Tensor, wanted_shifts: Tensor, most: int
) -> tuple[Tensor, Tensor]:
    """Compute class and box loss of the boxes of a frame that are hardest.

    Args:
        votes: ``(R, K + 1)``, scores before softmax.
        shifts: ``(R, 4)``, raw deltas.
        classes: int64 ``(R,)``: 0 background, 1..K, -1 does not count.
        wanted_shifts: ``(R, 4)``; those of the background do not matter.
        most: number of boxes that count, those with the highest sum of both losses.

    Returns:
        Two scalars, sums over those that count divided by their number; 0 where none does.
    """
    class_losses = functional.cross_entropy(
        votes, classes, ignore_index=UNCOUNTED, reduction="none"
    )
    box_losses = functional.smooth_l1_loss(shifts, wanted_shifts, reduction="none").sum(dim=1)
    box_losses = torch.where(classes > 0, box_losses, 0.0)
    with torch.no_grad():
        difficulty = (class_losses + box_losses).masked_fill(classes == UNCOUNTED, -torch.inf)
        counted = min(most, int((classes != UNCOUNTED).sum()))
        hardest = difficulty.sort(descending=True, stable=True).indices[:counted]
    count = max(counted, 1)
    return class_losses[hardest].sum() / count, box_losses[hardest].sum() / count


def _rpn_losses(
    logits: Tensor, deltas: Tensor, anchors: Tensor, is_object: Tensor, true_boxes: Tensor
) -> tuple[Tensor, Tensor]:
    counted, objects = is_object != UNCOUNTED, is_object == 1
    class_loss = functional.binary_cross_entropy_with_logits(
        logits[counted], is_object[counted].to(logits.dtype), reduction="sum"
    ) / counted.sum().clamp(min=1)
    wanted = encode(true_boxes[objects], anchors[objects], PROPOSAL_STDS)
    box_loss = functional.smooth_l1_loss(deltas[objects], wanted, reduction="sum")
    return class_loss, box_loss / _SAMPLED_ANCHORS
