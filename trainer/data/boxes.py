"""Boxes under geometric changes of their frame."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dff_edge.boxes import TrueBoxes, areas

_MIN_SIDE_PX = 4.0  # below, a quarter of a feature cell, nothing can be learned of an object
_MIN_SHARE = 0.25  # of a box that must remain within the frame


def clip_boxes(boxes: TrueBoxes, frame_size: tuple[int, int]) -> TrueBoxes:
    """Clip boxes at the borders of the frame.

    Those that are wholly outside are left out. Those of which less than a quarter is inside, or
    whose shorter side is below 4 pixels then, are ignored from now on.

    Args:
        boxes: in pixels of the frame, anywhere.
        frame_size: H and W.
    """
    height, width = frame_size
    inside = np.clip(boxes.boxes, 0, np.array([width, height, width, height], np.float32))
    sides = inside[:, 2:] - inside[:, :2]
    seen = (sides > 0).all(axis=1)
    is_small = sides.min(axis=1, initial=np.inf) < _MIN_SIDE_PX
    is_cut = areas(inside) < _MIN_SHARE * areas(boxes.boxes)
    ignored = boxes.ignored | is_small | is_cut
    return TrueBoxes(inside[seen], boxes.labels[seen], ignored[seen])


def map_boxes(boxes: TrueBoxes, matrix: NDArray[np.float64]) -> TrueBoxes:
    """Move boxes by an affine map: the bounds of each one's moved corners.

    Args:
        boxes: in pixels, edges of the first pixel at 0 and 1.
        matrix: ``(2, 3)`` from (x, y, 1), in the same coordinates, to the new ones.
    """
    corners = boxes.boxes[:, [0, 1, 2, 1, 0, 3, 2, 3]].reshape(-1, 4, 2)
    moved = corners @ matrix[:, :2].T + matrix[:, 2]
    bounds = np.concatenate([moved.min(axis=1), moved.max(axis=1)], axis=1)
    return TrueBoxes(bounds.astype(np.float32), boxes.labels, boxes.ignored)
