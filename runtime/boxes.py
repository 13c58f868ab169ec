"""Boxes in frames: what a detector answers, and what is true.

A box is ``(x_min, y_min, x_max, y_max)`` in pixels with exclusive maxima: the box of the one pixel
in the corner is ``(0, 0, 1, 1)``. Widths are plain differences. Code that counts pixels from
``x_min`` to ``x_max`` inclusive, as the reference does, has the same boxes with maxima less by 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Boxes = NDArray[np.float32]  # (n, 4)


@dataclass(frozen=True, slots=True)
class Detections:
    """The objects found in one frame, most certain first.

    Attributes:
        boxes: float32 ``(n, 4)`` xyxy in pixels of the frame.
        scores: float32 ``(n,)``, 0..1.
        labels: int32 ``(n,)``, index of the class.
    """

    boxes: Boxes
    scores: NDArray[np.float32]
    labels: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.scores)


@dataclass(frozen=True, slots=True)
class TrueBoxes:
    """The objects that are in one frame.

    Attributes:
        boxes: float32 ``(n, 4)`` xyxy in pixels of the frame.
        labels: int32 ``(n,)``, index of the class.
        ignored: bool ``(n,)``; finding such an object is neither right nor wrong, missing it
            neither (COCO's crowds).
    """

    boxes: Boxes
    labels: NDArray[np.int32]
    ignored: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.labels)


def iou_matrix(boxes: Boxes, others: Boxes) -> NDArray[np.float32]:
    """Intersection over union of every box with every other.

    Args:
        boxes: ``(n, 4)``.
        others: ``(m, 4)``.

    Returns:
        float32 ``(n, m)``, 0 where both are empty.

    Example:
        >>> iou_matrix(np.float32([[0, 0, 2, 2]]), np.float32([[1, 0, 3, 2]])).round(3).tolist()
        [[0.333]]
    """
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    union = areas(boxes)[:, None] + areas(others)[None, :] - shared
    shares: NDArray[np.float32] = np.zeros(shared.shape, np.float32)
    np.divide(shared, union, out=shares, where=union > 0)
    return shares


def areas(boxes: Boxes) -> NDArray[np.float32]:
    """Area of each box in square pixels, ``(n,)``."""
    sides = np.clip(boxes[:, 2:] - boxes[:, :2], 0, None)
    return np.asarray(sides[:, 0] * sides[:, 1], np.float32)
