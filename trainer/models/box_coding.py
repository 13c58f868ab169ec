"""Boxes as R-FCN learns them: offsets from a reference box, in units of its size.

Source: Girshick et al., "Rich feature hierarchies", CVPR 2014, appendix C; the standard deviations
    are those of the reference implementation of Deep Feature Flow.
Differs from it: maxima are exclusive (``dff_edge.boxes``), so sizes are plain differences;
    no box grows more than ``exp(MAX_LOG_GROWTH)`` times.

Boxes are float ``(..., 4)`` xyxy in pixels, deltas ``(..., 4)`` as (dx, dy, dw, dh).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

# A network's raw outputs are multiplied by these, so that targets have about unit variance.
PROPOSAL_STDS = (0.1, 0.1, 0.4, 0.4)  # anchor to proposal
BOX_STDS = (0.1, 0.1, 0.2, 0.2)  # proposal to detection
MAX_LOG_GROWTH = math.log(1000 / 16)  # exp of an untrained network's output must stay finite

_Stds = tuple[float, float, float, float]


def encode(boxes: Tensor, references: Tensor, stds: _Stds) -> Tensor:
    """Compute the raw deltas that ``decode`` turns into ``boxes``.

    Args:
        boxes: not empty.
        references: of the same shape, not empty.
        stds: factors of the decoding.
    """
    centres, sizes = _centres_and_sizes(boxes)
    from_centres, from_sizes = _centres_and_sizes(references)
    deltas = torch.cat([(centres - from_centres) / from_sizes, (sizes / from_sizes).log()], dim=-1)
    return deltas / deltas.new_tensor(stds)


def decode(deltas: Tensor, references: Tensor, stds: _Stds) -> Tensor:
    """Move and resize reference boxes.

    The centre moves by ``dx * width, dy * height``; the size is multiplied by ``exp(dw), exp(dh)``,
    which are limited to 62.5.

    Args:
        deltas: raw outputs of a network.
        references: of the same shape.
        stds: factors on the deltas.

    Example:
        >>> two_wide = torch.tensor([[10.0, 0, 0, 0]])
        >>> decode(two_wide, torch.tensor([[0.0, 0, 2, 4]]), PROPOSAL_STDS).tolist()
        [[2.0, 0.0, 4.0, 4.0]]
    """
    deltas = deltas * deltas.new_tensor(stds)
    centres, sizes = _centres_and_sizes(references)
    centres = centres + deltas[..., :2] * sizes
    half = sizes * deltas[..., 2:].clamp(max=MAX_LOG_GROWTH).exp() / 2
    return torch.cat([centres - half, centres + half], dim=-1)


def clip_boxes(boxes: Tensor, frame_size: tuple[int, int]) -> Tensor:
    """Clip boxes at the borders of a frame of ``(H, W)`` pixels."""
    height, width = frame_size
    return boxes.clamp(min=0).minimum(boxes.new_tensor([width, height, width, height]))


def iou_matrix(boxes: Tensor, others: Tensor) -> Tensor:
    """Return the IoU ``(n, m)`` of boxes ``(n, 4)`` and others ``(m, 4)``; empty: 0."""
    shared = _shared_areas(boxes, others)
    union = _areas(boxes)[:, None] + _areas(others)[None, :] - shared
    return torch.where(union > 0, shared / union.clamp(min=torch.finfo(union.dtype).tiny), 0.0)


def share_inside(boxes: Tensor, others: Tensor) -> Tensor:
    """Return the share ``(n, m)`` of the area of each box ``(n, 4)`` that lies in each other."""
    areas = _areas(boxes)[:, None]
    shared = _shared_areas(boxes, others)
    return torch.where(areas > 0, shared / areas.clamp(min=torch.finfo(areas.dtype).tiny), 0.0)


def _shared_areas(boxes: Tensor, others: Tensor) -> Tensor:
    low = torch.maximum(boxes[:, None, :2], others[None, :, :2])
    high = torch.minimum(boxes[:, None, 2:], others[None, :, 2:])
    return (high - low).clamp(min=0).prod(dim=2)


def _areas(boxes: Tensor) -> Tensor:
    return (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(dim=1)


def _centres_and_sizes(boxes: Tensor) -> tuple[Tensor, Tensor]:
    low, high = boxes[..., :2], boxes[..., 2:]
    return (low + high) / 2, high - low
