"""Training pairs (k, i), 0 <= i - k <= 9: section 3 of the paper, "Deep Feature Flow Training".

Item n of a data set is a function of (seed, n) alone, so that it does not depend on workers, on
the number of devices, or on where a run was interrupted. One item is a small group of pairs; of
synthetic scenes all from one, because a new scene costs more than another of its frames.

Source: Zhu et al., CVPR 2017, arXiv:1611.07715.
"""

from __future__ import annotations

from typing import NamedTuple, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from dff_edge.boxes import TrueBoxes
from dff_edge.data.datasets.label_png import NOT_SCORED
from dff_edge.frames import Image, LabelMap

IGNORED = NOT_SCORED  # label of pixels that count in no loss
IGNORED_BOX = -1  # label of boxes in which a detection counts neither as right nor as wrong
FLOW_STRIDE = 8  # px; stride of true flow, that of the finest feature maps


class _Frames(TypedDict):
    key: Tensor
    current: Tensor
    same: Tensor
    flow_px: Tensor


class PairBatch(_Frames, total=False):
    """A batch of pairs, stacked along N; ``labels`` or ``boxes`` as the data has them.

    Attributes:
        key: uint8 ``(N, 3, H, W)`` BGR.
        current: the same.
        same: bool ``(N,)``, whether i == k.
        flow_px: float32 ``(N, 2, H/8, W/8)``, (dx, dy) in pixels of the frame from the current
            frame to the key frame, NaN where unknown.
        labels: uint8 ``(N, H, W)`` of the current frame, 255 not scored; of segmentation data.
        boxes: N tensors float32 ``(n, 4)`` xyxy, maxima exclusive, in pixels of the current frame
            at H x W; of detection data.
        box_labels: N tensors int64 ``(n,)``, class of each box, 0..K-1, or -1 for a region in which
            a detection counts neither as right nor as wrong.
    """

    labels: Tensor
    boxes: list[Tensor]
    box_labels: list[Tensor]


class Truth(NamedTuple):
    """Labels or boxes of a pair's current frame; None where the data has none."""

    labels: LabelMap | None = None
    boxes: TrueBoxes | None = None


class Pair(NamedTuple):
    """One pair at the size of the network; ``flow_px`` ``(H/8, W/8, 2)``."""

    key: Image
    current: Image
    truth: Truth
    same: bool
    flow_px: NDArray[np.float32]


class PairData(Dataset[PairBatch]):
    """A data set of ``length`` groups of pairs.

    Attributes:
        knows_flow: whether pairs come with true flow, which pre-training of the flow network needs.
        knows_truth: whether pairs come with labels or boxes, which all other training needs.
        is_held_out: whether they are for validation and come once, in order.
    """

    knows_flow: bool
    knows_truth: bool = True
    is_held_out: bool = False
    length: int

    def __len__(self) -> int:
        return self.length


def unknown_flow(frame_size: tuple[int, int]) -> NDArray[np.float32]:
    """Return the flow of a pair with unknown flow, NaN ``(H/8, W/8, 2)``."""
    height, width = frame_size
    return np.full((height // FLOW_STRIDE, width // FLOW_STRIDE, 2), np.nan, np.float32)


def stack_pairs(pairs: list[Pair]) -> PairBatch:
    """Make a batch of pairs, all from one data set."""

    def images(frames: list[Image]) -> Tensor:
        return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)

    batch = PairBatch(
        key=images([pair.key for pair in pairs]),
        current=images([pair.current for pair in pairs]),
        same=torch.tensor([pair.same for pair in pairs]),
        flow_px=torch.from_numpy(np.stack([pair.flow_px for pair in pairs])).permute(0, 3, 1, 2),
    )
    labels = [pair.truth.labels for pair in pairs if pair.truth.labels is not None]
    if labels:
        batch["labels"] = torch.from_numpy(np.stack(labels))
    boxes = [pair.truth.boxes for pair in pairs if pair.truth.boxes is not None]
    if boxes:
        batch["boxes"] = [torch.from_numpy(np.asarray(b.boxes, np.float32)) for b in boxes]
        box_labels = [np.where(b.ignored, IGNORED_BOX, b.labels).astype(np.int64) for b in boxes]
        batch["box_labels"] = [torch.from_numpy(numbers) for numbers in box_labels]
    return batch


def collate_groups(groups: list[PairBatch]) -> PairBatch:
    """Join groups of pairs to one batch, for ``DataLoader(collate_fn=...)``."""
    batch = PairBatch(
        key=torch.cat([group["key"] for group in groups]),
        current=torch.cat([group["current"] for group in groups]),
        same=torch.cat([group["same"] for group in groups]),
        flow_px=torch.cat([group["flow_px"] for group in groups]),
    )
    if "labels" in groups[0]:
        batch["labels"] = torch.cat([group["labels"] for group in groups])
    if "boxes" in groups[0]:
        batch["boxes"] = [boxes for group in groups for boxes in group["boxes"]]
        batch["box_labels"] = [labels for group in groups for labels in group["box_labels"]]
    return batch
