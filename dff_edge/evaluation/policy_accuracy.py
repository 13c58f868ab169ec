"""Accuracy of a key-frame policy: labelled clips, answered as a run would.

``evaluate`` scores all pairs at each distance. Here a policy chooses the key frames, so that the
distances are those that occur, and their number is what the accuracy costs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dff_edge.bundle.tasks import TaskName
from dff_edge.data.datasets import LabelledClip
from dff_edge.errors import ConfigError
from dff_edge.evaluation.accuracy import Accuracy
from dff_edge.evaluation.tasks import MEASURED_TASKS
from dff_edge.frames import Frame
from dff_edge.runtime.pipeline import Pipeline

_FPS = 30.0  # of the stamps


@dataclass(frozen=True)
class PolicyAccuracy:
    """Outcome of a policy.

    Attributes:
        accuracy: at each distance from 0 to the largest that occurred.
        scored: number of labelled frames that were answered at each of these.
        frames: all frames answered.
        key_frames: key frames that they were answered from.
        expected_disagreement: mean over all answers; None where the bundle has no model of it.
    """

    accuracy: Accuracy
    scored: tuple[int, ...]
    frames: int
    key_frames: int
    expected_disagreement: float | None

    @property
    def overall(self) -> float:
        """Accuracy over all labelled frames, whatever their distance."""
        return self.accuracy.at_interval(self.accuracy.max_interval)

    def as_dict(self) -> dict[str, Any]:
        """Return the numbers, ready for JSON."""
        return {
            "metric": self.accuracy.metric.title,
            "frames": self.frames,
            "key_frames": self.key_frames,
            "key_share": self.key_frames / self.frames,
            "expected_disagreement": self.expected_disagreement,
            "accuracy": _number(self.overall),
            "at_distance": [
                {
                    "distance": distance,
                    "answers": answers,
                    "accuracy": _number(self.accuracy.at_distance(distance)),
                }
                for distance, answers in enumerate(self.scored)
                if answers
            ],
        }


def evaluate_policy(
    pipeline: Pipeline,
    clips: Sequence[LabelledClip],
    classes: Sequence[str],
    progress: Callable[[int, int], None] | None = None,
    task: TaskName = "segmentation",
) -> PolicyAccuracy:
    """Answer each clip from its first frame on, and score the labelled frames.

    Args:
        pipeline: with the policy, of one frame in flight.
        clips: labelled video.
        classes: names of the K classes.
        progress: called with (clips done, clips in all).
        task: the task of the bundle.

    Raises:
        ConfigError: no frame of the clips is labelled.
        SourceError: as ``evaluate``.
    """
    measured = MEASURED_TASKS.find(task)
    tally = measured.tally(classes, max(len(clip) for clip in clips))
    scored = np.zeros(max(len(clip) for clip in clips), np.int64)
    frames, keys, expected = 0, set(), []
    for number, clip in enumerate(clips):
        for result in pipeline.run(_frames(clip)):
            frames += 1
            keys.add((number, result.key_index))
            expected.append(result.expected_disagreement)
            index = result.frame.index
            if not clip.is_labelled(index):
                continue
            truth = tally.truth(clip, index, result.frame.image.shape[:2])
            if truth is not None:
                tally.add(result.key_distance, truth, result.answer)
                scored[result.key_distance] += 1
        if progress is not None:
            progress(number + 1, len(clips))
    if not scored.any():
        raise ConfigError(
            f"no frame of {len(clips)} clips is labelled; for {task} its label is "
            f"{measured.answers}. Give data of that kind."
        )
    known = [value for value in expected if value is not None]
    return PolicyAccuracy(
        accuracy=tally.accuracy(),
        scored=tuple(int(count) for count in scored),
        frames=frames,
        key_frames=len(keys),
        expected_disagreement=float(np.mean(known)) if known else None,
    )


def _frames(clip: LabelledClip) -> Iterator[Frame]:
    for index in range(len(clip)):
        yield Frame(clip.image(index), index, index / _FPS)


def _number(value: float) -> float | None:
    return None if np.isnan(value) else value
