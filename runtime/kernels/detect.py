"""Objects in a frame from the learned maps of R-FCN, by the native code.

``plugins/detect`` proposes boxes, pools the position-sensitive maps over them and suppresses
duplicates. A graph that ends with the maps runs everywhere; the rest needs operators that
few devices have, and is faster here.

Source: Dai et al., "R-FCN", NIPS 2016; section 4 of Zhu et al., CVPR 2017, arXiv:1611.07715.

Shapes: h x w maps, A anchors a cell, k x k bins, K classes; channels-last.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dff_edge import _native
from dff_edge.boxes import Detections
from dff_edge.bundle.anchors import anchor_sizes
from dff_edge.bundle.contract import STRIDE
from dff_edge.bundle.rfcn import RfcnSettings
from dff_edge.errors import ConfigError, ShapeError
from dff_edge.runtime.kernels.arrays import check_array, check_threads

Map = NDArray[np.float32]


class Detector:
    """Detects the objects of one frame at a time, in memory of its own.

    Not thread-safe.

    Args:
        settings: anchors, bins and numbers of boxes.
        map_size: ``(h, w)`` of the maps.
        classes: K, without the background.
        stride: pixels of the frame per cell of the maps, each way.

    Raises:
        ConfigError: more maps or boxes than the native code supports.
    """

    def __init__(
        self,
        settings: RfcnSettings,
        map_size: tuple[int, int],
        classes: int,
        *,
        stride: int = STRIDE,
    ) -> None:
        h, w = map_size
        cells = settings.bins**2
        self._depths = {
            "objectness": settings.anchors,
            "deltas": 4 * settings.anchors,
            "class_maps": cells * (classes + 1),
            "box_maps": 4 * cells,
        }
        self._map_size = (h, w)
        try:
            self._native = _native.Detector(
                height=h,
                width=w,
                classes=classes,
                bins=settings.bins,
                anchors=anchor_sizes(settings).ravel().tolist(),
                proposals_before_nms=settings.proposals_before_nms,
                proposals=settings.proposals,
                detections=settings.detections,
                proposal_nms=settings.proposal_nms,
                min_score=settings.min_score,
                nms=settings.nms,
                stride=stride,
            )
        except ValueError as error:
            raise ConfigError(
                f"Maps of {map_size} cells, {classes} classes and {settings} are not supported, "
                "expected 1 to 4096 cells each way, 1 to 256 classes, and fewer than 2^31 anchors "
                "and objects (proposals times classes) in all. Lower them."
            ) from error
        self._boxes = np.empty((settings.detections, 4), np.float32)
        self._scores = np.empty(settings.detections, np.float32)
        self._labels = np.empty(settings.detections, np.int32)

    def finish(
        self,
        objectness: Map,
        deltas: Map,
        class_maps: Map,
        box_maps: Map,
        *,
        threads: int = 1,
    ) -> Detections:
        """Find the objects of a frame. Blocks, and releases the GIL while it computes.

        The best anchors by objectness become boxes, clipped to the frame; empty ones are dropped,
        and NMS leaves the proposals. Each bin of a proposal is the mean of 2x2 bilinear samples of
        its own maps; the mean over the bins yields, by softmax, the scores, and the box that the
        proposal moves to. Detections of at least ``min_score`` pass NMS class by class.

        Of equal scores the lower anchor comes first, then the lower proposal, and of two
        classes the lower. An anchor whose objectness is NaN and a box that is not finite or empty
        are dropped; a NaN vote has probability 0.

        Args:
            objectness: float32 ``(h, w, A)``, logits.
            deltas: float32 ``(h, w, 4A)``, ``(dx, dy, dw, dh)`` of each anchor.
            class_maps: float32 ``(h, w, k*k*(K+1))``, bin by bin, row by row; background first.
            box_maps: float32 ``(h, w, k*k*4)``, bin by bin, ``(dx, dy, dw, dh)``.
            threads: threads that share the proposals, 1 to 256. The result is the same for any
                number.

        Returns:
            The detections in pixels of the network's frame, by falling score; in memory of
            their own.

        Raises:
            ShapeError: a map of another shape or dtype, or one that is not contiguous.
            ConfigError: ``threads`` is out of range.
        """
        maps = {
            "objectness": objectness,
            "deltas": deltas,
            "class_maps": class_maps,
            "box_maps": box_maps,
        }
        for name, array in maps.items():
            check_array(name, array, np.float32, ("h", "w", "depth"))
            expected = (*self._map_size, self._depths[name])
            if array.shape != expected:
                raise ShapeError(
                    f"{name} has shape {array.shape}, expected {expected} by the settings. "
                    "Are they those of this task network?"
                )
        count = self._native.finish(
            **maps,
            boxes=self._boxes,
            scores=self._scores,
            labels=self._labels,
            threads=check_threads(threads),
        )
        return Detections(
            self._boxes[:count].copy(), self._scores[:count].copy(), self._labels[:count].copy()
        )
