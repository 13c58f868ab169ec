"""The region proposal network's boxes: the best anchors, moved and resized, without duplicates.

Source: Ren et al., "Faster R-CNN", NIPS 2015, section 3; Zhu et al., CVPR 2017, arXiv:1611.07715,
    section 4, "Object Detection": 9 anchors, 300 proposals, NMS 0.7.
Differs from it: nothing.

Shapes: A anchors a cell, h x w feature map, n = h * w * A anchors, P proposals.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dff_edge.bundle.anchors import anchor_sizes
from dff_edge.bundle.rfcn import RfcnSettings
from dff_edge.runtime.kernels.nms import nms
from dff_edge.trainer.models.box_coding import PROPOSAL_STDS, clip_boxes, decode


def anchor_boxes(
    map_size: tuple[int, int],
    settings: RfcnSettings,
    stride: int,
    device: torch.device | None = None,
) -> Tensor:
    """Return the anchors of all cells, float32 ``(n, 4)`` xyxy in pixels of the frame.

    Anchor a of cell (y, x) is number ``(y * w + x) * A + a``; its centre is the cell's, of
    ``stride`` pixels each way.

    Example:
        >>> anchor_boxes((1, 1), RfcnSettings(anchor_scales=(8,)), 16).tolist()  # ratios 0.5, 1, 2
        [[-84.0, -40.0, 100.0, 56.0], [-56.0, -56.0, 72.0, 72.0], [-36.0, -80.0, 52.0, 96.0]]
    """
    height, width = map_size
    half = torch.from_numpy(anchor_sizes(settings)).to(device) / 2  # (A, 2)
    rows = (torch.arange(height, device=device) + 0.5) * stride
    columns = (torch.arange(width, device=device) + 0.5) * stride
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    centres = torch.stack([x, y], dim=-1)[:, :, None]  # (h, w, 1, 2)
    return torch.cat([centres - half, centres + half], dim=-1).reshape(-1, 4).float()


def per_anchor(objectness: Tensor, deltas: Tensor) -> tuple[Tensor, Tensor]:
    """Align the maps with ``anchor_boxes``: ``(N, n)`` logits and ``(N, n, 4)`` raw deltas.

    Args:
        objectness: ``(N, A, h, w)``.
        deltas: ``(N, 4 * A, h, w)``, anchor-major.
    """
    logits = objectness.permute(0, 2, 3, 1).flatten(1)
    return logits, deltas.permute(0, 2, 3, 1).reshape(*logits.shape, 4)


@torch.no_grad()
def propose(
    logits: Tensor,
    deltas: Tensor,
    anchors: Tensor,
    frame_size: tuple[int, int],
    settings: RfcnSettings,
) -> Tensor:
    """Choose the boxes of one frame to be classified.

    Of the ``proposals_before_nms`` best anchors, of equal ones the first, those are kept whose box
    is not empty within the frame; greedy suppression leaves at most ``proposals`` of them. An
    anchor with a logit or deltas of NaN is never kept.

    Args:
        logits: ``(n,)``.
        deltas: ``(n, 4)``, raw.
        anchors: ``(n, 4)``.
        frame_size: ``(H, W)`` in pixels.
        settings: numbers of boxes and threshold.

    Returns:
        float32 ``(P, 4)`` xyxy inside the frame, best first, without gradient; P may be 0.
    """
    # torch sorts NaN before all numbers; suppression keeps no box of such a score.
    order = logits.nan_to_num(nan=-torch.inf).sort(descending=True, stable=True).indices
    order = order[: settings.proposals_before_nms]
    boxes = clip_boxes(decode(deltas[order].float(), anchors[order], PROPOSAL_STDS), frame_size)
    is_some = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
    boxes, scores = boxes[is_some], logits[order][is_some].float()
    kept = nms(
        boxes.cpu().contiguous().numpy(),
        scores.cpu().numpy(),
        settings.proposal_nms,
        settings.proposals,
    )
    return boxes[torch.from_numpy(kept).to(boxes.device)]
