"""Import of OpenCV, with advice on which package to install.

It comes in two packages that write the same files, so dff-edge depends on neither by itself:
``opencv-python-headless`` comes with the engines, ``opencv-python``, which opens windows and needs
more of the system, with the extra ``window``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dff_edge.errors import require

__all__ = ["cv2"]

if TYPE_CHECKING:
    import cv2
else:
    cv2 = require("cv2", extra="cpu", purpose="dff-edge")
