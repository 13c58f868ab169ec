"""Synthetic street video with exact labels, boxes and flow, rendered on the fly."""

from dff_edge.synthetic.objects import BOX_CLASSES, true_boxes
from dff_edge.synthetic.scene import CLASSES, COLOURS, MOTIONS, SPLITS, Box, StreetScene

__all__ = [
    "BOX_CLASSES",
    "CLASSES",
    "COLOURS",
    "MOTIONS",
    "SPLITS",
    "Box",
    "StreetScene",
    "true_boxes",
]
