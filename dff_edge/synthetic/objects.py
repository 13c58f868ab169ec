"""The objects of a synthetic street as the truth of detection."""

from __future__ import annotations

import numpy as np

from dff_edge.boxes import TrueBoxes
from dff_edge.synthetic.scene import CLASSES, StreetScene

BOX_CLASSES = ("vehicle", "pedestrian", "pole")

_MIN_SIDE_PX = 4  # a quarter of a feature cell
_MIN_VISIBLE_PX = 16

_LABELS = {CLASSES.index(name): label for label, name in enumerate(BOX_CLASSES)}


def true_boxes(scene: StreetScene, index: int) -> TrueBoxes:
    """What a detector should find in a frame, by the index in ``BOX_CLASSES``.

    A box bounds what is seen of its object. One whose shorter side is below 4 pixels, or of which
    fewer than 16 pixels are seen, is ignored: nobody could tell what it is.

    Raises:
        IndexError: the scene has no such frame.
    """
    seen = scene.boxes(index)
    boxes = np.array([box.xyxy for box in seen], np.float32).reshape(-1, 4)
    sides = boxes[:, 2:] - boxes[:, :2]
    visible_px = np.array([box.visible_px for box in seen], np.int64)
    return TrueBoxes(
        boxes,
        np.array([_LABELS[box.label] for box in seen], np.int32),
        (sides.min(axis=1, initial=np.inf) < _MIN_SIDE_PX) | (visible_px < _MIN_VISIBLE_PX),
    )
