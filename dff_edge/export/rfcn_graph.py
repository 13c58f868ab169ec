"""R-FCN's learned maps in the form of a bundle: channels-last, with decoding factors folded in.

Shapes: C channels, A anchors a cell, k x k bins, K classes, h x w feature map.
"""

from __future__ import annotations

import copy
from itertools import accumulate

import torch
from torch import Tensor, nn

from dff_edge.export.linear import as_linear
from dff_edge.trainer.models.box_coding import BOX_STDS, PROPOSAL_STDS
from dff_edge.trainer.models.rfcn import RfcnHead


class RfcnGraph(nn.Module):
    """``features`` ``(1, h, w, C)`` to the four maps.

    They are ``(1, h, w, A)``, ``(1, h, w, 4A)``, ``(1, h, w, k*k*(K+1))`` and ``(1, h, w, k*k*4)``.
    The standard deviations of the deltas are in the weights.
    """

    def __init__(self, head: RfcnHead) -> None:
        super().__init__()
        self.objectness = as_linear(head.objectness)
        self.deltas = as_linear(_scaled(head.deltas, PROPOSAL_STDS))
        self.class_maps = as_linear(head.class_maps)
        self.box_maps = as_linear(_scaled(head.box_maps, BOX_STDS))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        half = features.shape[3] // 2
        proposing, scoring = features[..., :half], features[..., half:]
        return (
            self.objectness(proposing),
            self.deltas(proposing),
            self.class_maps(scoring),
            self.box_maps(scoring),
        )


class PartedMaps(nn.Module):
    """The four maps as one tensor ``(1, h, w, C)``, propagated, to the four of ``MAPS``."""

    delta_stds: Tensor
    box_stds: Tensor

    def __init__(self, head: RfcnHead) -> None:
        super().__init__()
        self.depths = head.depths
        for name, depth, stds in (
            ("delta_stds", head.depths[1], PROPOSAL_STDS),
            ("box_stds", head.depths[3], BOX_STDS),
        ):
            self.register_buffer(name, torch.tensor(stds).repeat(depth // len(stds)))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        ends = list(accumulate(self.depths))
        # Not split(): its operator differs between operator sets.
        objectness, deltas, class_maps, box_maps = (
            features[..., end - depth : end] for end, depth in zip(ends, self.depths, strict=True)
        )
        return objectness, deltas * self.delta_stds, class_maps, box_maps * self.box_stds


def _scaled(conv: nn.Conv2d, stds: tuple[float, ...]) -> nn.Conv2d:
    """Return the convolution with its outputs multiplied by factors that repeat."""
    scaled = copy.deepcopy(conv)
    assert scaled.bias is not None
    factors = torch.tensor(stds, device=scaled.weight.device)
    factors = factors.repeat(scaled.out_channels // len(stds))
    with torch.no_grad():
        scaled.weight *= factors[:, None, None, None]
        scaled.bias *= factors
    return scaled
