"""Targets of R-FCN's two stages: for anchors and for proposals.

Source: Ren et al., "Faster R-CNN", NIPS 2015, section 3.1.2; the reference implementation of Deep
    Feature Flow.
Differs from it: a box of which half or more lies in an ignored region, and that is no object, does
    not count; the reference's data has no such regions.

Shapes: n anchors or R boxes, T true boxes of one frame, of which some are ignored regions.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from dff_edge.trainer.models.box_coding import iou_matrix, share_inside

UNCOUNTED = -1  # target of a box that counts in no loss
_OBJECT_IOU, _BACKGROUND_IOU = 0.7, 0.3  # of anchors
_FOREGROUND_IOU = 0.5  # of proposals
_IGNORED_SHARE = 0.5
_SAMPLED, _SAMPLED_OBJECTS = 256, 128  # anchors of a frame that count


class AnchorTargets(NamedTuple):
    """Targets of the region proposal network in one frame.

    Attributes:
        is_object: int64 ``(n,)``: 1 object, 0 background, -1 does not count.
        boxes: float32 ``(n, 4)``, the true box of each anchor that is an object; others hold the
            anchor itself.
    """

    is_object: Tensor
    boxes: Tensor


class BoxTargets(NamedTuple):
    """Targets of the classifier in one frame.

    Attributes:
        classes: int64 ``(R,)``: 0 background, 1..K, -1 does not count.
        boxes: float32 ``(R, 4)``, the true box of each that has a class; others hold the candidate.
    """

    classes: Tensor
    boxes: Tensor


def anchor_targets(
    anchors: Tensor,
    frame_size: tuple[int, int],
    boxes: Tensor,
    labels: Tensor,
    order: Tensor,
) -> AnchorTargets:
    """Label anchors as object or background, and choose 256 that count.

    Only anchors inside the frame count. One is an object at an IoU of 0.7 with a true box, or where
    no other inside has a higher IoU with that box; it is background below 0.3 with all of them. At
    most 128 objects are chosen, and background up to 256 in all, the first in ``order``.

    Args:
        anchors: ``(n, 4)`` xyxy in pixels.
        frame_size: ``(H, W)``.
        boxes: ``(T, 4)``, true boxes and ignored regions.
        labels: int64 ``(T,)``, the class, or -1 for an ignored region.
        order: int64 ``(n,)``, a permutation of the anchors' numbers.
    """
    true, ignored = boxes[labels >= 0], boxes[labels < 0]
    inside = is_inside(anchors, frame_size)
    is_object = torch.zeros(len(anchors), dtype=torch.bool, device=anchors.device)
    best_iou = anchors.new_zeros(len(anchors))
    targets = anchors
    if len(true):
        iou = iou_matrix(anchors, true) * inside[:, None]  # anchors outside are the best of no box
        best_iou, nearest = iou.max(dim=1)
        targets = true[nearest]
        highest = iou.max(dim=0).values
        is_best = ((iou == highest) & (highest > 0)).any(dim=1)
        is_object = is_best | (best_iou >= _OBJECT_IOU)
    is_background = inside & ~is_object & (best_iou < _BACKGROUND_IOU)
    is_background &= ~_is_ignored(anchors, ignored)
    objects = _first(is_object, order, _SAMPLED_OBJECTS)
    background = _first(is_background, order, _SAMPLED - len(objects))
    chosen = torch.full_like(order, UNCOUNTED)
    chosen[objects] = 1
    chosen[background] = 0
    return AnchorTargets(chosen, torch.where(is_object[:, None], targets, anchors))


def box_targets(candidates: Tensor, boxes: Tensor, labels: Tensor) -> BoxTargets:
    """Assign each candidate the class of the true box it overlaps most, from an IoU of 0.5 on.

    Args:
        candidates: ``(R, 4)`` xyxy in pixels.
        boxes: ``(T, 4)``, true boxes and ignored regions.
        labels: int64 ``(T,)``, the class 0..K-1, or -1 for an ignored region.
    """
    is_true = labels >= 0
    true, ignored = boxes[is_true], boxes[~is_true]
    classes = torch.zeros(len(candidates), dtype=torch.int64, device=candidates.device)
    targets = candidates
    if len(true):
        best_iou, nearest = iou_matrix(candidates, true).max(dim=1)
        is_foreground = best_iou >= _FOREGROUND_IOU
        classes = torch.where(is_foreground, labels[is_true][nearest] + 1, classes)
        targets = torch.where(is_foreground[:, None], true[nearest], candidates)
    classes = classes.masked_fill((classes == 0) & _is_ignored(candidates, ignored), UNCOUNTED)
    return BoxTargets(classes, targets)


def is_inside(boxes: Tensor, frame_size: tuple[int, int]) -> Tensor:
    """Return which boxes ``(n, 4)`` lie within a frame of ``(H, W)`` pixels, bool ``(n,)``."""
    height, width = frame_size
    reach_out = (boxes[:, :2] < 0).any(dim=1) | (boxes[:, 2] > width) | (boxes[:, 3] > height)
    return ~reach_out


def _is_ignored(boxes: Tensor, regions: Tensor) -> Tensor:
    return (share_inside(boxes, regions) >= _IGNORED_SHARE).any(dim=1)


def _first(is_one: Tensor, order: Tensor, most: int) -> Tensor:
    """Return the numbers of those that qualify, the first ``most`` in the given order."""
    return order[is_one[order]][:most]
