"""The interface of a labelled clip, whatever the source of its frames."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dff_edge.boxes import TrueBoxes
from dff_edge.frames import Image, LabelMap


class LabelledClip(Protocol):
    """Consecutive frames of one video, some of them labelled.

    Returned arrays may be shared: the caller must not write to them. Labels and boxes are
    as in the data; ``dff_edge.data.datasets.truth`` checks them against the frame.
    """

    name: str

    def __len__(self) -> int: ...

    def image(self, index: int) -> Image:
        """Return frame ``index``, uint8 ``(H, W, 3)`` BGR."""
        ...

    def is_labelled(self, index: int) -> bool:
        """Return whether a frame has a label map or boxes, without reading them."""
        ...

    def where(self, index: int) -> str:
        """Return the name of a frame's labels for messages: their file, where they have one."""
        ...

    def labels(self, index: int) -> LabelMap | None:
        """Return the label map of a frame, uint8 ``(H, W)``, or None where it has none."""
        ...

    def boxes(self, index: int) -> TrueBoxes | None:
        """Return the objects in a frame, in its pixels, or None where it is not annotated."""
        ...

    def flow(self, current: int, key: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]] | None:
        """Return true flow in pixels ``(H, W, 2)`` and occlusion ``(H, W)``, None where unknown."""
        ...
