"""Boxes in frames: detections and true boxes.

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
    """The objects found in one frame, by falling score.

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

    def above(self, min_score: float) -> Detections:
        """Return those that score at least ``min_score``, in their order."""
        kept = self.scores >= min_score
        return Detections(self.boxes[kept], self.scores[kept], self.labels[kept])


@dataclass(frozen=True, slots=True)
class TrueBoxes:
    """The objects that are in one frame.

    Attributes:
        boxes: float32 ``(n, 4)`` xyxy in pixels of the frame.
        labels: int32 ``(n,)``, index of the class.
        ignored: bool ``(n,)``; such an object counts neither when detected nor when missed
            (COCO's crowds).
        size: ``(H, W)`` of the frame as the annotations state it; None where they do not.
    """

    boxes: Boxes
    labels: NDArray[np.int32]
    ignored: NDArray[np.bool_]
    size: tuple[int, int] | None = None

    def __len__(self) -> int:
        return len(self.labels)


def iou_matrix(boxes: Boxes, others: Boxes) -> NDArray[np.float32]:
    """Return the intersection over union of every box with every other.

    Args:
        boxes: ``(n, 4)``.
        others: ``(m, 4)``.

    Returns:
        float32 ``(n, m)``, 0 where both are empty.

    Example:
        >>> iou_matrix(np.float32([[0, 0, 2, 2]]), np.float32([[1, 0, 3, 2]])).round(3).tolist()
        [[0.333]]
    """
    shared = shared_areas(boxes, others)
    union = areas(boxes)[:, None] + areas(others)[None, :] - shared
    shares: NDArray[np.float32] = np.zeros(shared.shape, np.float32)
    np.divide(shared, union, out=shares, where=union > 0)
    return shares


def shared_areas(boxes: Boxes, others: Boxes) -> NDArray[np.float32]:
    """Return the area that every box shares with every other, in square pixels, ``(n, m)``."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    return np.asarray(np.clip(high - low, 0, None).prod(axis=2), np.float32)


def in_source_pixels(
    found: Detections, frame_size: tuple[int, int], size: tuple[int, int]
) -> Detections:
    """Convert detections to pixels of the source frame, which was resized to the network's.

    Args:
        found: boxes in pixels of the network's frame.
        frame_size: its ``(H, W)``.
        size: ``(H, W)`` of the source frame, to which boxes are clipped.

    Example:
        >>> found = Detections(np.float32([[4, 8, 16, 16]]), np.float32([0.9]), np.int32([0]))
        >>> in_source_pixels(found, (16, 16), (160, 32)).boxes.tolist()
        [[8.0, 80.0, 32.0, 160.0]]
    """
    (from_height, from_width), (height, width) = frame_size, size
    ends = np.array([width, height, width, height], np.float32)
    from_ends = np.array([from_width, from_height, from_width, from_height], np.float32)
    boxes = found.boxes * (ends / from_ends)
    return Detections(np.clip(boxes, 0, ends, out=boxes), found.scores, found.labels)


def areas(boxes: Boxes) -> NDArray[np.float32]:
    """Return the area of each box in square pixels, ``(n,)``."""
    sides = np.clip(boxes[:, 2:] - boxes[:, :2], 0, None)
    return np.asarray(sides[:, 0] * sides[:, 1], np.float32)
