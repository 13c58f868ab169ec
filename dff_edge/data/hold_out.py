"""A hold-out: the part of labelled clips that a model is measured on while it trains on the rest.

Whole clips where there are enough, for they show what the model makes of another place; blocks of
consecutive frames otherwise, since single frames of a video have near copies among their
neighbours. The choice depends on the data and the share alone, so that it is the same each time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dff_edge.boxes import TrueBoxes
from dff_edge.data.datasets import LabelledClip
from dff_edge.errors import ConfigError
from dff_edge.frames import Image, LabelMap

MIN_SHARE, MAX_SHARE = 0.02, 0.5
_UNEVEN = 0.5  # by which whole clips may miss the share, as a part of it
_MANY_FRAMES = 6  # in a block: from here on twice as many blocks are made, in more places


class Part(NamedTuple):
    """Consecutive frames of a clip, ``start`` to ``stop`` - 1.

    Attributes:
        clip: its number.
        is_held_out: whether they are for validation.
    """

    clip: int
    start: int
    stop: int
    is_held_out: bool


class HoldOut(NamedTuple):
    """Clips to train on, and those that are held out from it."""

    train: list[LabelledClip]
    held_out: list[LabelledClip]


class ClipPart:
    """Consecutive frames of a labelled clip as a clip of their own; see ``LabelledClip``.

    Args:
        clip: the whole one.
        start: its first frame.
        stop: the frame after its last.
    """

    def __init__(self, clip: LabelledClip, start: int, stop: int) -> None:
        self.name = f"{clip.name}:{start}"
        self._clip, self._start, self._stop = clip, start, stop

    def __len__(self) -> int:
        return self._stop - self._start

    def image(self, index: int) -> Image:
        """See ``LabelledClip.image``."""
        return self._clip.image(self._own(index))

    def is_labelled(self, index: int) -> bool:
        """See ``LabelledClip.is_labelled``."""
        return self._clip.is_labelled(self._own(index))

    def where(self, index: int) -> str:
        """See ``LabelledClip.where``."""
        return self._clip.where(self._own(index))

    def labels(self, index: int) -> LabelMap | None:
        """See ``LabelledClip.labels``."""
        return self._clip.labels(self._own(index))

    def boxes(self, index: int) -> TrueBoxes | None:
        """See ``LabelledClip.boxes``."""
        return self._clip.boxes(self._own(index))

    def flow(self, current: int, key: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]] | None:
        """See ``LabelledClip.flow``."""
        return self._clip.flow(self._own(current), self._own(key))

    def _own(self, index: int) -> int:
        if not 0 <= index < len(self):
            raise IndexError(f"frame {index} of {len(self)}")
        return self._start + index


def hold_out(clips: Sequence[LabelledClip], share: float) -> HoldOut:
    """Divide labelled clips; those without labels are left out.

    Clips of one video, which lacks frames between them, are divided as that video: a sparsely
    labelled one has near copies in all of them.

    Args:
        clips: in a fixed order.
        share: of the labelled frames that is held out, about.

    Raises:
        ConfigError: there are too few labelled frames for that.
    """
    videos = _videos(clips)
    frames = [[clip.is_labelled(i) for clip in video for i in range(len(clip))] for video in videos]
    labelled = [[i for i, is_labelled in enumerate(video) if is_labelled] for video in frames]
    divided = HoldOut([], [])
    for part in choose_parts(labelled, [len(video) for video in frames], share):
        side = divided.held_out if part.is_held_out else divided.train
        side += _pieces(videos[part.clip], part.start, part.stop)
    return divided


def choose_parts(
    labelled: Sequence[Sequence[int]], lengths: Sequence[int], share: float
) -> list[Part]:
    """Choose the parts of clips that are held out: every n-th clip, or every n-th block.

    Blocks where there are fewer than n clips, or clips so uneven that they miss the share by half.

    Args:
        labelled: of each clip, the labelled frames in rising order.
        lengths: frames of each clip.
        share: of the labelled frames that is held out, about; n is its inverse.

    Raises:
        ConfigError: the share is out of range, or there are too few labelled frames for it.

    Example:
        >>> [part[1:] for part in choose_parts([range(0, 40, 4)], [40], 0.2)]
        [(0, 5, False), (5, 13, False), (13, 21, True), (21, 29, False), (29, 40, False)]
    """
    if not MIN_SHARE <= share <= MAX_SHARE:
        raise ConfigError(f"the share is {share}, expected {MIN_SHARE} to {MAX_SHARE}.")
    every = round(1 / share)
    used = [number for number, frames in enumerate(labelled) if frames]
    total = sum(len(labelled[clip]) for clip in used)
    whole = [
        Part(clip, 0, lengths[clip], _is_held_out(number, every))
        for number, clip in enumerate(used)
    ]
    held_out = sum(len(labelled[part.clip]) for part in whole if part.is_held_out)
    if abs(held_out - share * total) <= _UNEVEN * share * total:
        return whole
    blocks = every if total < _MANY_FRAMES * every else 2 * every
    size = max(1, -(-total // blocks))
    parts: list[Part] = []
    for clip in used:
        last = [frames[-1] + 1 for frames in _blocks(labelled[clip], size)]
        starts, stops = [0, *last[:-1]], [*last[:-1], lengths[clip]]
        for start, stop in zip(starts, stops, strict=True):
            parts.append(Part(clip, start, stop, _is_held_out(len(parts), every)))
    if not any(part.is_held_out for part in parts):
        raise ConfigError(
            f"there are {total} labelled frames, too few to hold out a share of {share}. Label "
            f"{every} or more, or name other data for validation."
        )
    return parts


def _videos(clips: Sequence[LabelledClip]) -> list[list[LabelledClip]]:
    """Group consecutive clips that are of one video; most are a video of their own."""
    groups = groupby(enumerate(clips), key=lambda each: getattr(each[1], "video", each[0]))
    return [[clip for _, clip in group] for _, group in groups]


def _pieces(clips: Sequence[LabelledClip], start: int, stop: int) -> Iterator[LabelledClip]:
    """Return what clips that follow each other have of the frames ``start`` to ``stop`` - 1."""
    first = 0
    for clip in clips:
        own = range(max(start - first, 0), min(stop - first, len(clip)))
        if len(own) == len(clip):
            yield clip
        elif own:
            yield ClipPart(clip, own.start, own.stop)
        first += len(clip)


def _is_held_out(number: int, every: int) -> bool:
    return number % every == every // 2


def _blocks(frames: Sequence[int], size: int) -> list[Sequence[int]]:
    return [frames[start : start + size] for start in range(0, len(frames), size)]
