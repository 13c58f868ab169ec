"""Anchors, the boxes that R-FCN starts from: several sizes around every feature cell's centre.

Source: Ren et al., "Faster R-CNN", NIPS 2015, as in the reference implementation of Deep Feature
    Flow: sides are rounded at a base of 16 pixels, one of its cells, before they are scaled.
Differs from it: maxima are exclusive (``boxes``), so the centres are those of the cells.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from dff_edge.bundle.rfcn import RfcnSettings

_BASE_PX = 16


def anchor_sizes(settings: RfcnSettings) -> NDArray[np.float32]:
    """Return width and height of the anchors of a cell.

    Returns:
        float32 ``(A, 2)``, pixels of the network's frame; ratio by ratio, the scales of one ratio
        in order. All lie around the centre of their cell ``((x + 0.5) * S, (y + 0.5) * S)``.

    Example:
        >>> anchor_sizes(RfcnSettings(anchor_scales=(8,))).tolist()  # of ratios 0.5, 1, 2
        [[184.0, 96.0], [128.0, 128.0], [88.0, 176.0]]
    """
    sizes = []
    for ratio in settings.anchor_ratios:
        width = max(1, round(math.sqrt(_BASE_PX**2 / ratio)))
        height = max(1, round(width * ratio))
        sizes += [(width * scale, height * scale) for scale in settings.anchor_scales]
    return np.array(sizes, np.float32)
