"""Detection from R-FCN's maps: proposals, votes, boxes, suppression of duplicates.

Source: Dai et al., "R-FCN", NIPS 2016; Zhu et al., CVPR 2017, arXiv:1611.07715, section 4, "Object
    Detection", and the settings of the reference implementation.
Differs from it: the pooling (``ps_align``).

The device computes the same: ``dff_edge.runtime.kernels.detect`` and the graph of the task network.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dff_edge.boxes import Detections
from dff_edge.bundle.rfcn import RfcnSettings
from dff_edge.runtime.kernels.nms import nms
from dff_edge.trainer.models.box_coding import BOX_STDS, clip_boxes, decode
from dff_edge.trainer.models.proposals import anchor_boxes, per_anchor, propose
from dff_edge.trainer.models.ps_align import position_sensitive_vote
from dff_edge.trainer.models.rfcn import RfcnMaps


@torch.no_grad()
def detect(maps: RfcnMaps, frame_size: tuple[int, int], settings: RfcnSettings) -> list[Detections]:
    """Find the objects of each frame.

    Class by class, boxes that score ``min_score`` or more and are not empty within the frame are
    suppressed greedily, of equal scores the better proposal first; the ``detections`` best of all
    classes are left, of equal scores the lower class, then the better proposal.

    Args:
        maps: of N frames, see ``RfcnMaps``.
        frame_size: ``(H, W)`` in pixels of the networks' frame.
        settings: of the head that made the maps.

    Returns:
        N detections in pixels of the networks' frame, labels 0..K-1.
    """
    map_size = (maps.objectness.shape[2], maps.objectness.shape[3])
    stride = frame_size[0] // map_size[0]
    anchors = anchor_boxes(map_size, settings, stride, maps.objectness.device)
    logits, deltas = per_anchor(maps.objectness, maps.deltas)
    found = []
    for n in range(len(logits)):
        proposals = propose(logits[n], deltas[n], anchors, frame_size, settings)
        votes = position_sensitive_vote(maps.class_maps[n], proposals, settings.bins, stride)
        shifts = position_sensitive_vote(maps.box_maps[n], proposals, settings.bins, stride)
        boxes = clip_boxes(decode(shifts, proposals, BOX_STDS), frame_size)
        found.append(_best(votes.softmax(dim=1)[:, 1:], boxes, settings))
    return found


def _best(scores: Tensor, boxes: Tensor, settings: RfcnSettings) -> Detections:
    """Return the detections of scores ``(P, K)`` and boxes ``(P, 4)``."""
    all_boxes = np.ascontiguousarray(boxes.cpu().numpy(), np.float32)
    by_class = np.ascontiguousarray(scores.cpu().numpy().T, np.float32)  # (K, P)
    is_solid = (all_boxes[:, 2:] > all_boxes[:, :2]).all(axis=1)  # NaN is not
    labels, rows = [], []
    for k, of_class in enumerate(by_class):
        sure = np.flatnonzero((of_class >= settings.min_score) & is_solid)
        kept = nms(all_boxes[sure], of_class[sure], settings.nms, settings.detections)
        rows.append(sure[kept])
        labels.append(np.full(len(kept), k, np.int32))
    label, row = np.concatenate(labels), np.concatenate(rows)
    score = by_class[label, row]
    order = np.argsort(-score, kind="stable")[: settings.detections]
    return Detections(all_boxes[row[order]], score[order], label[order])
