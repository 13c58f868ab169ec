"""The newest result as a JPEG picture."""

from __future__ import annotations

import cv2
import numpy as np

from dff_edge.runtime.frames import Result
from dff_edge.runtime.overlay import Colours, draw_overlay
from dff_edge.runtime.sinks.captions import caption_of

MAX_SIDE_PX = 960  # larger frames are drawn smaller: a picture costs the same for every camera

_QUALITY = 80


def draw_jpeg(result: Result, colours: Colours) -> bytes:
    """Draw a result's classes over its frame, at most ``MAX_SIDE_PX`` wide and high."""
    image, labels = result.frame.image, result.labels
    height, width = labels.shape
    scale = min(1.0, MAX_SIDE_PX / max(height, width))
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
        labels = np.asarray(cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST), np.uint8)
    picture = draw_overlay(image, labels, colours, caption=caption_of(result))
    _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return data.tobytes()
