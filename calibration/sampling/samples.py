"""Calibration samples: key frames, and pairs at every distance.

Calibration must use the inputs that occur on the device. The feature network reads key frames, the
flow network pairs (k, i) at all distances 1..l-1, and the task network features that were
propagated, as well as those of key frames. So samples are taken from clips;
single images cannot provide them, and nothing is synthesised where clips are too short.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dff_edge.bundle.reader import Bundle
from dff_edge.calibration.sampling.clips import Clip
from dff_edge.errors import CalibrationError
from dff_edge.frames import Image
from dff_edge.runtime.kernels.resize import FrameResizer, check_image
from dff_edge.runtime.sequential import Arrays, SequentialRunner, open_graphs

MIN_KEY_FRAMES = 8

_Place = tuple[int, int]  # clip, frame


@dataclass(frozen=True)
class Key:
    """A key frame and the distances at which other frames are predicted from it."""

    clip: int
    index: int
    distances: tuple[int, ...]


@dataclass(frozen=True)
class Samples:
    """Frames of a plan, at the sizes that the networks read.

    Attributes:
        keys: the plan.
        full: uint8 ``(1, H, W, 3)`` of each key frame, by (clip, frame).
        half: uint8 ``(1, H/2, W/2, 3)`` of each frame, by (clip, frame).
        digest: SHA-256 over all of it.
    """

    keys: tuple[Key, ...]
    full: dict[_Place, Image]
    half: dict[_Place, Image]
    digest: str

    @property
    def pairs_by_distance(self) -> dict[int, int]:
        """Return the number of pairs at each distance."""
        counts = Counter(d for key in self.keys for d in key.distances)
        return dict(sorted(counts.items()))

    @property
    def clip_count(self) -> int:
        """Number of clips that were used."""
        return len({key.clip for key in self.keys})

    def feature_inputs(self) -> Iterator[Arrays]:
        """Yield the inputs of the feature network, one key frame at a time."""
        for key in self.keys:
            yield {"frame": self.full[key.clip, key.index]}

    def flow_inputs(self) -> Iterator[Arrays]:
        """Yield the inputs of the flow network, one pair at a time."""
        for key in self.keys:
            for distance in key.distances:
                yield {
                    "key_half": self.half[key.clip, key.index],
                    "frame_half": self.half[key.clip, key.index + distance],
                }

    def task_inputs(self, bundle: Bundle) -> Iterator[Arrays]:
        """Yield the inputs of the task network, by the fp32 networks and the native warp.

        For each key frame its own features, then those propagated to each of its distances.
        """
        with open_graphs(bundle, "fp32") as subnets:
            runner = SequentialRunner(subnets)
            added = subnets.task.inputs.get("correction")
            for features, moved in self._maps(runner):
                own = features if moved is None else runner.warp(features, moved)
                inputs = {"features": own}
                if added is not None and moved is not None:
                    inputs["correction"] = moved["correction"]
                elif added is not None:
                    inputs["correction"] = np.zeros(added.shape, added.dtype)
                yield inputs

    def propagate_inputs(self, bundle: Bundle) -> Iterator[Arrays]:
        """Yield key frames' features with flow and scale field of each pair, by fp32 networks."""
        with open_graphs(bundle, "fp32") as subnets:
            for features, moved in self._maps(SequentialRunner(subnets)):
                if moved is not None:
                    yield {"features": features, **moved}

    def _maps(self, runner: SequentialRunner) -> Iterator[tuple[NDArray[Any], Arrays | None]]:
        """Yield features of each key frame: alone, then with the maps of each distance."""
        for key in self.keys:
            features = runner.extract(self.full[key.clip, key.index])
            yield features, None
            key_half = self.half[key.clip, key.index]
            for distance in key.distances:
                half = self.half[key.clip, key.index + distance]
                yield features, runner.estimate_flow(key_half, half)


def collect_samples(
    clips: Sequence[Clip],
    frame_size: tuple[int, int],
    interval: int,
    *,
    max_keys: int,
    pairs_per_key: int,
) -> Samples:
    """Read the calibration frames.

    Holds at most ``max_keys`` frames of ``frame_size`` and ``max_keys * (pairs_per_key + 1)``
    of half that size in memory.

    Raises:
        CalibrationError: see ``plan_keys``.
    """
    keys = plan_keys([len(clip) for clip in clips], interval, max_keys, pairs_per_key)
    resizer = FrameResizer(frame_size)
    full: dict[_Place, Image] = {}
    half: dict[_Place, Image] = {}
    key_places = {(key.clip, key.index) for key in keys}
    others = {(key.clip, key.index + d) for key in keys for d in key.distances}
    for place in sorted(key_places | others):  # rising, so that a video is decoded once
        clip, index = place
        image = check_image(clips[clip].image(index))
        if place in key_places:
            full[place] = np.empty((1, *resizer.frame_size, 3), np.uint8)
            resizer.full(image, full[place])
        half[place] = np.empty((1, *resizer.half_size, 3), np.uint8)
        resizer.half(image, half[place])
    return Samples(keys, full, half, _digest(keys, full, half))


def plan_keys(
    lengths: Sequence[int], interval: int, max_keys: int, pairs_per_key: int
) -> tuple[Key, ...]:
    """Spread key frames over clips, and distances 1..l-1 over key frames.

    Args:
        lengths: frames of each clip.
        interval: l, the largest key interval that the bundle will be used with.
        max_keys: number of key frames; fewer where there are fewer frames.
        pairs_per_key: number of distances for each, the rarest so far first.

    Raises:
        CalibrationError: fewer than 8 key frames, a distance that no clip reaches, or an
            interval that leaves nothing to propagate.
    """
    if interval < 2:
        raise CalibrationError(
            f"The key interval is {interval}, expected 2 or more: the flow network is calibrated "
            "on pairs at distances 1 to interval - 1. Name the largest interval that you will use."
        )
    places = [(c, k) for c, length in enumerate(lengths) for k in range(length - 1)]
    reached = max(lengths, default=0) - 1  # the largest distance
    if reached < interval - 1:
        raise CalibrationError(
            f"The longest of {len(lengths)} clips has {reached + 1} frames, expected at least "
            f"{interval} for key interval {interval}: pairs at all distances up to "
            f"{interval - 1} are needed. Give longer clips, or a smaller interval."
        )
    count = min(max_keys, len(places))
    if count < MIN_KEY_FRAMES or count * pairs_per_key < interval - 1:
        raise CalibrationError(
            f"The clips yield {count} key frames and {count * pairs_per_key} pairs, expected at "
            f"least {MIN_KEY_FRAMES} key frames and {interval - 1} pairs, one for each distance. "
            "Give more or longer clips."
        )
    chosen = np.linspace(0, len(places) - 1, count).round().astype(int)
    used: Counter[int] = Counter()
    keys: list[Key] = []
    for number in chosen:
        clip, index = places[number]
        possible = range(1, min(interval - 1, lengths[clip] - 1 - index) + 1)
        # The rarest first; of equally rare ones the longest, which fewer key frames can reach.
        best = sorted(possible, key=lambda d: (used[d], -d))[:pairs_per_key]
        used.update(best)
        keys.append(Key(clip, index, tuple(sorted(best))))
    missing = sorted(set(range(1, interval)) - used.keys())
    if missing:
        raise CalibrationError(
            f"There is no pair at distance {missing[0]}: expected pairs at all distances 1 "
            f"to {interval - 1}. Give longer clips, so that more frames can be key frames."
        )
    return tuple(keys)


def _digest(keys: Sequence[Key], full: dict[_Place, Image], half: dict[_Place, Image]) -> str:
    digest = hashlib.sha256(repr(tuple(keys)).encode())
    for frames in (full, half):
        for place in sorted(frames):
            digest.update(frames[place].tobytes())
    return digest.hexdigest()
