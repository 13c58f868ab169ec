"""The objects of a synthetic street as true boxes for detection."""

from __future__ import annotations

import numpy as np

from dff_edge.boxes import TrueBoxes
from dff_edge.synthetic.scene import CLASSES, StreetScene

BOX_CLASSES = ("vehicle", "pedestrian", "pole")

_MIN_SIDE_PX = 4  # a quarter of a feature cell
_MIN_VISIBLE_PX = 16

_LABELS = {CLASSES.index(name): label for label, name in enumerate(BOX_CLASSES)}


def true_boxes(scene: StreetScene, index: int) -> TrueBoxes:
    """Return the true boxes of a frame, by the index in ``BOX_CLASSES``.

    A box bounds the visible part of its object. One whose shorter side is below 4 pixels, or with
    fewer than 16 visible pixels, is ignored: it cannot be recognised.

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
