"""Frames and their contexts, and a policy that keeps what it is shown."""

from __future__ import annotations

import numpy as np

from dff_edge.frames import Frame
from dff_edge.runtime.policy import FrameContext, KeyFramePolicy

IMAGE = np.zeros((40, 60, 3), np.uint8)


class Recorder(KeyFramePolicy):
    """Keeps every context; key frames where the frame's number is in ``keys``."""

    def __init__(self, *keys: int) -> None:
        self.keys = keys
        self.seen: list[FrameContext] = []

    def is_key(self, context: FrameContext) -> bool:
        self.seen.append(context)
        return context.frame.index in self.keys


def frame(index: int, stamp_s: float, segment: int = 0) -> Frame:
    return Frame(IMAGE, index, stamp_s, segment=segment)


def context(distance: int, *, is_feature_idle: bool = True) -> FrameContext:
    return FrameContext(frame(distance, 0.0), distance, 0.0, (), is_feature_idle)
