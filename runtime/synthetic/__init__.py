"""Synthetic street video with exact labels, boxes and flow, drawn on the fly."""

from dff_edge.runtime.synthetic.scene import CLASSES, COLOURS, SPLITS, Box, StreetScene

__all__ = ["CLASSES", "COLOURS", "SPLITS", "Box", "StreetScene"]
