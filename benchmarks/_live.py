"""A labelled clip played as a camera, and the answer that each of its frames is left with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from dff_edge.frames import Frame, Image
from dff_edge.runtime.pipeline import Pipeline
from dff_edge.runtime.sources.memory import MemorySource
from dff_edge.runtime.sources.paced import PacedSource


class Answer(NamedTuple):
    """The answer to a frame.

    Attributes:
        index: number of the frame.
        ready_s: when it was ready, since frame 0 was captured.
        age_s: from the capture of the frame until then.
        distance: captured frames from its key frame to it.
        content: label map, boxes, ...
    """

    index: int
    ready_s: float
    age_s: float
    distance: int
    content: Any


@dataclass
class Played:
    """A clip that was played once.

    Attributes:
        frames: number of its frames. Frame 0 was answered before the camera began.
        rate: of the camera, frames per second.
        answers: in their order, that to frame 0 first.
    """

    frames: int
    rate: float
    answers: list[Answer]

    def left_with(self, *, in_time: bool) -> list[Answer]:
        """Return the answer that each frame from 1 on is left with.

        Args:
            in_time: whether an answer counts from when it is ready. A frame is then left with the
                latest one that was ready when the next frame was captured, by the camera's clock:
                frame i at i / rate. Else a frame that was answered has its own answer, however
                late it came, and one that was not keeps that of the frame before.
        """
        kept, left = 0, []
        for index in range(1, self.frames):
            while kept + 1 < len(self.answers):
                following = self.answers[kept + 1]
                is_late = in_time and following.ready_s > (index + 1) / self.rate
                if following.index > index or is_late:
                    break
                kept += 1
            left.append(self.answers[kept])
        return left


def play(pipeline: Pipeline, images: Sequence[Image], rate: float) -> Played:
    """Answer a clip as a camera would give it, the newest frame first; others are dropped.

    Frame 0 is a key frame that is answered before the camera begins, with frame 1: how a run begins
    says nothing of how it goes on.

    Args:
        pipeline: of one frame in flight.
        images: the frames of the clip.
        rate: of the camera, frames per second.
    """
    pipeline.reset()
    pipeline.submit(Frame(images[0], 0, 0.0))
    first = pipeline.poll(block=True)
    assert first is not None
    answers = [Answer(0, 0.0, 0.0, 0, first.answer)]
    begin_s: float | None = None  # when frame 0 would have been captured
    with PacedSource(MemorySource(images[1:], len(images) - 1), rate) as camera:
        for frame in camera:
            if begin_s is None:
                begin_s = frame.stamp_s - 1 / rate
            index = frame.index + 1
            pipeline.submit(Frame(frame.image, index, frame.stamp_s, live=True))
            result = pipeline.poll(block=True)
            assert result is not None
            assert result.age_s is not None
            ready_s = frame.stamp_s + result.age_s - begin_s
            answers.append(Answer(index, ready_s, result.age_s, result.key_distance, result.answer))
    return Played(len(images), rate, answers)
