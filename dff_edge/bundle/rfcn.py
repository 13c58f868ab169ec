"""Settings of R-FCN beside its weights, on the device as in training.

Source: Dai et al., "R-FCN", NIPS 2016; settings of section 4 of Zhu et al., CVPR 2017,
    arXiv:1611.07715, and of the reference implementation.
"""

from __future__ import annotations

from typing import Annotated, NamedTuple

import numpy as np
from pydantic import Field

from dff_edge.bundle.record import Record

Side = Annotated[float, Field(gt=0, le=8192, allow_inf_nan=False)]
Ratio = Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)]
Threshold = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


NO_LIMIT = -0.5  # below every score
MAX_BOX_WORK = 1 << 31  # steps a frame; 300 proposals in 30 classes and 49 bins take 13 million


class BoxCounts(NamedTuple):
    """Maximum numbers of boxes, one step after the other."""

    candidates: int
    proposals: int
    detections: int


class RfcnSettings(Record):
    """Anchors, pooling and the numbers of boxes.

    Attributes:
        bins: k; an object is scored in k x k bins.
        anchor_scales: side of the square anchors in feature cells.
        anchor_ratios: height over width of the anchors; as many anchors a cell as scales times
            ratios, ratio by ratio, the scales of one ratio in order.
        proposals_before_nms: number of anchors, the best by objectness, that become boxes.
        proposals: number of boxes left of them, which are classified.
        proposal_nms: IoU above which only the better of two proposals is kept.
        min_score: detections that score less are not reported.
        nms: IoU above which only the better of two detections of a class is kept.
        detections: maximum number of reported detections per frame.
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
        """A, the number of anchors per cell."""
        return len(self.anchor_scales) * len(self.anchor_ratios)

    @property
    def score_limit(self) -> float:
        """The largest float32 below ``min_score``: scores above it are reported."""
        if self.min_score <= 0:
            return NO_LIMIT
        return float(np.nextafter(np.float32(self.min_score), np.float32(0)))

    def work(self, classes: int) -> int:
        """Return about how many steps the boxes of a frame take at most, for K classes."""
        suppression = self.proposals_before_nms * self.proposals
        suppression += classes * self.proposals**2
        pooling = self.bins**2 * self.proposals * (classes + 5) * 16  # 4 pixels of 4 samples
        return suppression + pooling

    def counts(self, cells: int, classes: int) -> BoxCounts:
        """Return the numbers of boxes for maps of so many cells, and K classes."""
        candidates = min(self.proposals_before_nms, cells * self.anchors)
        proposals = min(self.proposals, candidates)
        return BoxCounts(candidates, proposals, min(self.detections, classes * proposals))
