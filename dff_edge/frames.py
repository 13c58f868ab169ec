"""Frames, results and their counts: the data of a pipeline."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dff_edge.boxes import Detections
from dff_edge.errors import FrameError

# How far a live stamp may lie in the future: by rounding, or by a driver's clock.
STAMP_AHEAD_S = 0.1

Image = NDArray[np.uint8]  # (H, W, 3) BGR
LabelMap = NDArray[np.uint8]  # (H, W) class index


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of a source.

    Attributes:
        image: uint8 ``(H, W, 3)`` BGR. The receiver may keep it; a source never writes to it again.
        index: number of the frame in its source, counted from 0 in *captured* frames: a frame
            that was dropped or could not be decoded is counted too.
        stamp_s: capture time in seconds. Of a live source ``time.monotonic()`` at capture, of a
            file the presentation time from its start.
        segment: number of the uninterrupted segment of the source that the frame belongs to. A
            camera that was reconnected, stalled or changed its picture size begins another; no
            flow is computed from one segment to another.
        live: whether ``stamp_s`` is ``time.monotonic()`` at capture, so that ages are known.
    """

    image: Image
    index: int
    stamp_s: float
    segment: int = 0
    live: bool = False


def check_stamp(stamp_s: Any, *, live: bool, now_s: float) -> float:
    """Return a stamp in seconds; raise if it would make the ages of results meaningless.

    Args:
        stamp_s: of a frame.
        live: whether it must be a time of ``time.monotonic()``; for a recording any value is valid.
        now_s: ``time.monotonic()``.

    Raises:
        FrameError: it is not a number, not finite, or live and more than ``STAMP_AHEAD_S`` ahead.
    """
    if not isinstance(stamp_s, Real):
        raise FrameError(
            f"The frame's stamp is {stamp_s!r}, a {type(stamp_s).__name__}; expected seconds, a "
            "number."
        )
    try:
        seconds = float(stamp_s)
    except OverflowError:  # an integer beyond all floats
        seconds = math.inf
    if not math.isfinite(seconds):
        raise FrameError(f"The frame's stamp is {seconds}; expected seconds, a finite number.")
    if live and seconds > now_s + STAMP_AHEAD_S:
        raise FrameError(
            f"The frame's stamp, {seconds:.3f} s, lies {seconds - now_s:.3g} s in the future; "
            f"expected time.monotonic() at the capture, which is {now_s:.3f} now. Is it of another "
            "clock, such as time.time()? Convert it: time.monotonic() minus the frame's age."
        )
    return seconds


@dataclass(frozen=True, slots=True)
class Result:
    """Result of the pipeline for one frame. Results come in frame order.

    Attributes:
        frame: the frame as it was submitted, not copied.
        labels: for segmentation, uint8 ``(H, W)`` class per pixel, at the size of ``frame.image``;
            owned by the receiver. None for other tasks.
        key_index: index of the key frame whose features were used for this frame.
        latency_s: seconds between ``submit`` of the frame and its result being ready.
        stage_ms: milliseconds spent in each stage, by its name ("resize", "feature", "flow",
            "warp", "task", "decode"); a stage that did not run is absent. Features that were
            computed in the background are told with the first result that uses them.
        age_s: seconds from capture to the result being ready, None where the frame is not live.
        confidence: uint8 ``(H, W)``, 255 times the probability of each pixel's class, where the
            pipeline was opened with it; owned by the receiver.
        detections: for detection, boxes in pixels of ``frame.image``; owned by the receiver. None
            for other tasks.
        values: for tasks that regress a number per pixel, such as depth, float32 ``(H, W)``;
            owned by the receiver. None for other tasks.
        task: name of the task of the result.
        key_age_s: seconds by which the key frame was captured before this frame; with ``age_s`` it
            is how old the features were when the result was ready.
        expected_disagreement: predicted share of this answer, 0..1, that the feature network run on
            this frame would have answered otherwise: of the pixels, or of the score of detections
            (docs/realtime.md). 0 for a key frame; None where the bundle has no model of it.
    """

    frame: Frame
    labels: LabelMap | None
    key_index: int
    latency_s: float
    stage_ms: dict[str, float]
    age_s: float | None = None
    confidence: NDArray[np.uint8] | None = None
    detections: Detections | None = None
    values: NDArray[np.float32] | None = None
    task: str = "segmentation"
    key_age_s: float = 0.0
    expected_disagreement: float | None = None

    @property
    def answer(self) -> Any:
        """The one of ``labels``, ``detections`` and ``values`` that the task predicts."""
        return first_given(self.labels, self.detections, self.values)

    @property
    def is_key(self) -> bool:
        """Whether this frame is a key frame: its own features were used."""
        return self.key_index == self.frame.index

    @property
    def key_distance(self) -> int:
        """Captured frames between this frame and its key frame, ``i - k``."""
        return self.frame.index - self.key_index


def first_given(*answers: Any) -> Any:
    """Return the first that is not None; None if there is none."""
    return next((answer for answer in answers if answer is not None), None)


@dataclass(slots=True)
class FrameCounts:
    """Outcome of the frames of a source: no frame is lost without being counted.

    Attributes:
        read: frames returned to the reader.
        dropped: frames of a live source that were replaced by a newer one.
        failed: frames that could not be decoded, with the reasons in ``reasons`` (first ten).
        reconnects: number of times that a live source was reconnected.
    """

    read: int = 0
    dropped: int = 0
    failed: int = 0
    reconnects: int = 0
    reasons: list[str] = field(default_factory=list)

    def fail(self, reason: str) -> None:
        """Count one frame that could not be used."""
        self.failed += 1
        if len(self.reasons) < 10:
            self.reasons.append(reason)
