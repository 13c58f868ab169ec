"""Key frames that policies need for the same agreement with the full network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dff_edge.bundle.reader import Bundle
from dff_edge.calibration.sampling.clips import Clip
from dff_edge.frames import Frame, Result
from dff_edge.report.live_plot import Bought
from dff_edge.runtime.pipeline import Pipeline
from dff_edge.runtime.policy import FixedInterval, KeyFramePolicy
from dff_edge.runtime.tasks import task_of

RESAMPLES = 1000
MOST = 30  # frames from one key frame to the next, as of the policies
PRICES = np.geomspace(0.02, 5, 24)  # of a key frame, in wholly wrong answers


@dataclass
class Run:
    """A policy's answers on each clip.

    Attributes:
        keys: whether each frame is a key frame, ``(clips, frames)``.
        stale: share of each answer that differs from the full network's, the same.
        latency_s: of each answer, the same.
    """

    keys: NDArray[np.bool_]
    stale: NDArray[np.float64]
    latency_s: NDArray[np.float64]

    def of(self, clips: NDArray[np.int64], worst: bool) -> tuple[float, float]:
        """Return key frames of some clips, and mean or 95th percentile of the difference."""
        stale = self.stale[clips]
        told = np.percentile(stale, 95) if worst else stale.mean()
        return float(self.keys[clips].sum()), float(told)

    def after(self, frames: int) -> Run:
        """Return the same without the first frames of each clip."""
        return Run(self.keys[:, frames:], self.stale[:, frames:], self.latency_s[:, frames:])

    def bought(self, name: str, key_s: float, other_s: float) -> Bought:
        """Return its agreement with the full network, and its cost by the times of both kinds."""
        mean_s = other_s + float(self.keys.mean()) * (key_s - other_s)
        return Bought(name, 1e3 * mean_s, 1 - float(self.stale.mean()))

    def share_of(self, curve: Sequence[tuple[float, float]]) -> float:
        """Return the key frames of a curve where it differs as much in the mean, over its own.

        Between two points of the curve, ``(difference, key frames)``, key frames go linearly with
        the difference; NaN beyond them.
        """
        count, wanted = self.of(np.arange(len(self.keys)), worst=False)
        return between(curve, wanted) / count


def times_of(runs: Sequence[Run]) -> tuple[float, float]:
    """Return the median time of a key frame and of another one, in seconds, over runs.

    All run the same networks: so their costs differ by their key frames, and not by what else the
    machine did while one of them ran.
    """
    latency_s = np.concatenate([run.latency_s.ravel() for run in runs])
    keys = np.concatenate([run.keys.ravel() for run in runs])
    return float(np.median(latency_s[keys])), float(np.median(latency_s[~keys]))


class Answers:
    """Answers clips by different policies; those of the full network are the truth.

    Args:
        bundle: of the networks.
        clips: all of one length.
        options: ``precision`` and ``threads``.
    """

    def __init__(self, bundle: Bundle, clips: Sequence[Clip], options: Any) -> None:
        self._bundle, self._clips, self._options = bundle, clips, options
        self._full = [[result.answer for result in own] for own in self._results(FixedInterval(1))]

    def run(self, policy: KeyFramePolicy) -> Run:
        """Return the answers of a policy, and print how many key frames it took."""
        results = self._results(policy)
        stale = [
            differences(self._bundle, [result.answer for result in own], full)
            for own, full in zip(results, self._full, strict=True)
        ]
        run = Run(
            np.array([[result.is_key for result in own] for own in results]),
            np.array(stale),
            np.array([[result.latency_s for result in own] for own in results]),
        )
        count, mean = run.of(np.arange(len(self._clips)), worst=False)
        print(f"{policy}: {count:.0f} key frames, {mean:.4f} stale", flush=True)
        return run

    def bound(self) -> list[tuple[float, float]]:
        """Return mean difference and key frames of the best choices with all frames known.

        By dynamic programming, for each of ``PRICES``.
        """
        stale = [self._stale_from(number) for number in range(len(self._clips))]
        frames = sum(len(own) for own in stale)
        points = []
        for price in PRICES:
            best = [best_choice(own, float(price)) for own in stale]
            points.append((sum(own for own, _ in best) / frames, float(sum(n for _, n in best))))
        return points

    def _stale_from(self, number: int) -> NDArray[np.float64]:
        """Return how stale frame k + d is from key frame k, at ``[k, d]``; NaN after the clip."""
        clip, full = self._clips[number], self._full[number]
        found = np.full((len(clip), MOST), np.nan)
        with self._open(FixedInterval(MOST)) as pipeline:
            for k in range(len(clip)):
                answers = [result.answer for result in pipeline.run(frames_of(clip, k, k + MOST))]
                found[k, : len(answers)] = differences(
                    self._bundle, answers, full[k : k + len(answers)]
                )
        return found

    def _results(self, policy: KeyFramePolicy) -> list[list[Result]]:
        with self._open(policy) as pipeline:
            return [list(pipeline.run(frames_of(clip))) for clip in self._clips]

    def _open(self, policy: KeyFramePolicy) -> Pipeline:
        how = self._options
        return Pipeline.open(
            self._bundle, precision=how.precision, policy=policy, depth=1, threads=how.threads
        )


def frames_of(clip: Clip, begin: int = 0, end: int | None = None) -> list[Frame]:
    """Return consecutive frames of a clip, numbered from 0."""
    numbers = range(begin, min(len(clip), end or len(clip)))
    return [Frame(clip.image(i), i - begin, (i - begin) / 30) for i in numbers]


def best_choice(stale: NDArray[np.float64], price: float) -> tuple[float, int]:
    """Choose the key frames of a clip for the least sum of differences and prices.

    Args:
        stale: how stale frame k + d is from key frame k, at ``[k, d]``, ``(frames, MOST)``.
        price: of a key frame.

    Returns:
        The sum of the differences, and the number of key frames.
    """
    frames, most = stale.shape
    sums = np.cumsum(stale, axis=1)
    best = [(0.0, 0.0, 0)]  # cost, differences, key frames up to each frame
    for end in range(1, frames + 1):
        best.append(
            min(
                (
                    best[k][0] + price + sums[k, end - k - 1],
                    best[k][1] + sums[k, end - k - 1],
                    best[k][2] + 1,
                )
                for k in range(max(0, end - most), end)
            )
        )
    _, differs, keys = best[-1]
    return float(differs), keys


def differences(bundle: Bundle, answers: list[Any], full: list[Any]) -> list[float]:
    """Return the share of each answer that differs from the full network's."""
    task = task_of(bundle.manifest)
    return [task.disagreement(*pair) for pair in zip(answers, full, strict=True)]


def shares(name: str, fixed: Run, curve: Sequence[Run], *, worst: bool) -> dict[str, float]:
    """Return the share of key frames, and its 5th and 95th percentile over resampled clips."""
    random, count = np.random.default_rng(0), len(fixed.keys)
    samples = [
        key_share(fixed, curve, random.integers(0, count, count), worst) for _ in range(RESAMPLES)
    ]
    known = [share for share in samples if np.isfinite(share)]
    low, high = np.percentile(known, [5, 95]) if known else (np.nan, np.nan)
    share = key_share(fixed, curve, np.arange(count), worst)
    return {name: share, f"{name}_low": float(low), f"{name}_high": float(high)}


def key_share(fixed: Run, curve: Sequence[Run], clips: NDArray[np.int64], worst: bool) -> float:
    """Return key frames of a policy where it differs as much as a fixed one, over the latter's."""
    keys, wanted = fixed.of(clips, worst)
    return between([run.of(clips, worst)[::-1] for run in curve], wanted) / keys


def between(points: Sequence[tuple[float, float]], wanted: float) -> float:
    """Return the key frames at a difference, of ``(difference, key frames)``; NaN beyond them."""
    stale, keys = (np.array(values) for values in zip(*sorted(points), strict=True))
    if not stale[0] <= wanted <= stale[-1]:
        return float("nan")
    return float(np.interp(wanted, stale, keys))
