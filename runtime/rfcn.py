"""What R-FCN has to know beside its weights, on the device as in training.

Source: Dai et al., "R-FCN", NIPS 2016; settings of section 4 of Zhu et al., CVPR 2017,
    arXiv:1611.07715, and of the reference implementation.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from dff_edge.runtime.manifest_records import Record

Side = Annotated[float, Field(gt=0, le=8192, allow_inf_nan=False)]
Ratio = Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)]
Threshold = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class RfcnSettings(Record):
    """Anchors, pooling and the numbers of boxes.

    Attributes:
        bins: k; an object is scored in k x k bins.
        anchor_scales: side of the square anchors in feature cells.
        anchor_ratios: height over width of the anchors; as many anchors a cell as scales times
            ratios, ratio by ratio, the scales of one ratio in order.
        proposals_before_nms: how many anchors, the best by objectness, become boxes.
        proposals: how many boxes are left of them, and are classified.
        proposal_nms: IoU above which of two proposals only the better one stays.
        min_score: what scores less is not reported.
        nms: IoU above which of two detections of a class only the better one stays.
        detections: the most that are reported of a frame.
    """

    bins: int = Field(default=7, ge=1, le=15)
    anchor_scales: Annotated[tuple[Side, ...], Field(min_length=1, max_length=16)] = (8, 16, 32)
    anchor_ratios: Annotated[tuple[Ratio, ...], Field(min_length=1, max_length=16)] = (0.5, 1, 2)
    proposals_before_nms: int = Field(default=6000, ge=1, le=100_000)
    proposals: int = Field(default=300, ge=1, le=5000)
    proposal_nms: Threshold = 0.7
    min_score: Threshold = 1e-4
    nms: Threshold = 0.3
    detections: int = Field(default=300, ge=1, le=5000)

    @property
    def anchors(self) -> int:
        """A, anchors a cell."""
        return len(self.anchor_scales) * len(self.anchor_ratios)
