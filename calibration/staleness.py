"""Fit a bundle's model of staleness on clips without labels: the full network is the teacher.

Frames of a clip are paired at all distances. Each pair is answered twice: by propagation from the
earlier frame, and by the full network on the later one. The share that differs is what the
model predicts from the measures of ``runtime.staleness``. It is fitted in FP32: how far a frame has
moved from its key frame does not depend on the precision, and scores hardly do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from dff_edge.bundle.reader import Bundle
from dff_edge.bundle.staleness import MEASURES, Measure, StalenessModel, Term
from dff_edge.calibration.sampling.clips import Clip
from dff_edge.evaluation.staleness import staleness_quality
from dff_edge.frames import Image
from dff_edge.hiding import hide_credentials
from dff_edge.names import Precision
from dff_edge.printable import printable
from dff_edge.runtime.kernels.resize import check_image
from dff_edge.runtime.sequential import SequentialRunner, open_graphs
from dff_edge.runtime.staleness import (
    Staleness,
    measure_motion,
    small_picture,
    sum_of_scores,
    with_doubt,
)
from dff_edge.runtime.tasks import decoder_of, task_of

MIN_PAIRS = 80
MOST_STRETCHES = 24

_RIDGE = 1e-2
_ROUNDS = 100
_LEAST_DEVIATION = 1e-3
_MOST_GROWTH = 2.0

# Golomb rulers: of a few frames, all distances between two are different.
_RULERS = (
    (0, 1, 4, 9, 15, 22, 32, 34),
    (0, 1, 4, 10, 18, 23, 25),
    (0, 1, 4, 10, 12, 17),
    (0, 1, 4, 9, 11),
    (0, 1, 4, 6),
)
_SHORTEST = _RULERS[-1][-1]


@dataclass(frozen=True)
class Stretch:
    """Frames of a clip, in their order, whose pairs are measured.

    Attributes:
        clip: number of the clip.
        frames: numbers of the frames.
        fold: 0 or 1; one half of the stretches tells how well a fit on the other half predicts.
    """

    clip: int
    frames: tuple[int, ...]
    fold: int


@dataclass(frozen=True)
class MeasuredPairs:
    """Pairs of a key frame and a frame that is propagated from it.

    Attributes:
        distances: in frames, ``(n,)``.
        measures: ``(n, 5)``, a row as ``runtime.staleness.with_doubt`` returns it.
        found: share of the propagated answer that differs from the full network's, ``(n,)``.
        folds: of their stretches, ``(n,)``.
        keys: a number for each key frame, ``(n,)``.
    """

    distances: NDArray[np.int64]
    measures: NDArray[np.float64]
    found: NDArray[np.float64]
    folds: NDArray[np.int64]
    keys: NDArray[np.int64]


def plan_stretches(lengths: Sequence[int]) -> tuple[Stretch, ...]:
    """Choose frames of clips: at most ``MOST_STRETCHES`` stretches, evenly spread.

    The first half of the clips is in fold 0, the second in fold 1; of a single clip its halves are.

    Args:
        lengths: frames of each clip; those of less than 7 frames are left out.
    """
    usable = [(clip, 0, length) for clip, length in enumerate(lengths) if length > _SHORTEST]
    if len(usable) == 1:
        clip, _, length = usable[0]
        usable = [(clip, 0, length // 2), (clip, length // 2, length)]
    stretches = []
    for number, (clip, begin, end) in enumerate(usable):
        ruler = next((ruler for ruler in _RULERS if ruler[-1] < end - begin), ())
        if ruler:
            starts = range(begin, end - ruler[-1], max(1, ruler[-1] // 6))
            fold = 2 * number // len(usable)
            stretches += [Stretch(clip, tuple(s + mark for mark in ruler), fold) for s in starts]
    if len(stretches) <= MOST_STRETCHES:
        return tuple(stretches)
    chosen = np.linspace(0, len(stretches) - 1, MOST_STRETCHES).round().astype(int)
    return tuple(stretches[number] for number in chosen)


class _Reader:
    """Reads the frames of stretches, those of a clip in rising order: a video is decoded once.

    Frames that a later stretch needs are kept until then.
    """

    def __init__(self, clips: Sequence[Clip], stretches: Sequence[Stretch]) -> None:
        self._clips, self._stretches = clips, stretches
        self._kept: dict[tuple[int, int], Image] = {}

    def images(self, number: int) -> list[Image]:
        """Return the frames of a stretch; they are asked for one stretch after the other."""
        own, later = self._stretches[number], self._stretches[number:]
        needed = {(one.clip, i) for one in later for i in one.frames}
        self._kept = {place: image for place, image in self._kept.items() if place in needed}
        for clip, i in sorted(needed - self._kept.keys()):
            if clip == own.clip and i <= own.frames[-1]:
                self._kept[clip, i] = self._clips[clip].image(i)
        return [self._kept[own.clip, i] for i in own.frames]


def measure_pairs(
    bundle: Bundle,
    clips: Sequence[Clip],
    stretches: Sequence[Stretch],
    precision: Precision = "fp32",
    progress: Callable[[int, int], None] | None = None,
) -> MeasuredPairs:
    """Answer each pair of frames by propagation and by the full network, and compare.

    Args:
        bundle: a verified bundle.
        clips: consecutive frames.
        stretches: of them, those of a clip by rising start.
        precision: of the graphs.
        progress: called with (stretches done, stretches in all).
    """
    task, decoder = task_of(bundle.manifest), decoder_of(bundle.manifest)
    size, reader = bundle.manifest.frame_size, _Reader(clips, stretches)
    distances, measures, found, folds, keys = [], [], [], [], []
    with open_graphs(bundle, precision) as subnets:
        runner = SequentialRunner(subnets)
        for done, stretch in enumerate(stretches):
            images = [check_image(image) for image in reader.images(done)]
            halves = [runner.half(image) for image in images]
            features = [runner.extract(runner.full(image)) for image in images]
            cells = subnets.flow.outputs["flow"].shape[1:3]
            smalls = [small_picture(half, cells) for half in halves]
            full = [decoder.decode(runner.score(own), size) for own in features]
            for k, i in combinations(range(len(images)), 2):
                distance = stretch.frames[i] - stretch.frames[k]
                moved = runner.estimate_flow(halves[k], halves[i])
                scores = runner.propagate(features[k], moved)
                answer = decoder.decode(scores, size)
                motion = measure_motion(distance, moved["flow"], smalls[k], smalls[i])
                most = max(sum_of_scores(full[k]), sum_of_scores(answer))
                distances.append(distance)
                measures.append(with_doubt(motion, answer, most))
                found.append(task.disagreement(answer.content, full[i].content))
                folds.append(stretch.fold)
                keys.append(done * len(_RULERS[0]) + k)
            if progress is not None:
                progress(done + 1, len(stretches))
    told = np.array(measures, np.float64).reshape(-1, len(MEASURES))
    usable = np.isfinite(told).all(axis=1)  # a flow that is not finite tells nothing
    return MeasuredPairs(
        np.array(distances, np.int64)[usable],
        told[usable],
        np.array(found, np.float64)[usable],
        np.array(folds, np.int64)[usable],
        np.array(keys, np.int64)[usable],
    )


def fit_staleness(
    bundle: Bundle,
    clips: Sequence[Clip],
    *,
    source: str,
    say: Callable[[str], None] = lambda line: None,
) -> StalenessModel | None:
    """Fit the model of a bundle, and measure it on clips that it was not fitted on.

    Its quality is that of two fits, each on one half of the clips and measured on the other; the
    model itself is fitted on all of them.

    Args:
        bundle: a verified bundle.
        clips: consecutive frames, none of them data that accuracy is reported on.
        source: name of the clips, for the manifest.
        say: called with a line for each step.

    Returns:
        None where the clips are too few or too short, or show nothing that could be stale; ``say``
        is told why.
    """
    stretches = plan_stretches([len(clip) for clip in clips])
    count = sum(len(stretch.frames) * (len(stretch.frames) - 1) // 2 for stretch in stretches)
    folds = {stretch.fold for stretch in stretches}
    if count < MIN_PAIRS or len(folds) < 2:
        say(
            f"not fitted how stale an answer is: {len(clips)} clips yield {count} pairs of frames, "
            f"expected {MIN_PAIRS} and more, as from one clip of 50 frames, or 3 of 20"
        )
        return None
    say(f"measuring how stale answers become, on {count} pairs")
    pairs = measure_pairs(bundle, clips, stretches)
    fitted = fit_terms(pairs, np.ones(len(pairs.found), np.bool_))
    if not all(pairs.found[pairs.folds == fold].any() for fold in (0, 1)) or not fitted[1]:
        say(
            "not fitted how stale an answer is: on these clips propagated answers are those of the "
            "full network, or differ whatever the motion. Give clips with motion and with what "
            "the model finds."
        )
        return None
    expected = np.empty(len(pairs.found))
    for fold in (0, 1):
        others, own = pairs.folds != fold, pairs.folds == fold
        expected[own] = predict(fit_terms(pairs, others), pairs.measures[own])
    quality = staleness_quality(pairs.distances, expected, pairs.found, pairs.folds)
    say(
        f"fitted how stale an answer is: rank correlation {quality.rank_correlation:.2f} on other "
        f"clips (of the distance alone {quality.distance_alone:.2f}), "
        f"{quality.within_distance:.2f} within a distance"
    )
    if quality.rank_correlation < quality.distance_alone:
        say(
            "Warning: the distance alone tells more of how stale an answer is than this model. "
            "Give more clips, and such as the device sees."
        )
    bias, terms = fitted
    return StalenessModel(
        bias=bias,
        terms=terms,
        growth=fit_growth(pairs, predict(fitted, pairs.measures)),
        max_distance=int(pairs.distances.max()),
        source=printable(hide_credentials(source))[:4096],
        clips=len({stretch.clip for stretch in stretches}),
        pairs=count,
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        quality=quality,
    )


def fit_terms(pairs: MeasuredPairs, chosen: NDArray[np.bool_]) -> tuple[float, dict[Measure, Term]]:
    """Fit bias and terms by logistic regression on some of the pairs.

    The target is a share, not a class; its cross-entropy is smallest where expected and found
    disagreement agree in the mean. Weights are not negative: among measures that say much the same,
    a free fit would set one against the other, and a new scene would bring out the difference.
    The optimum is unique; it is found by Newton's method along one weight after the other.
    """
    measures, found = pairs.measures[chosen], pairs.found[chosen]
    centres, deviations = measures.mean(axis=0), measures.std(axis=0)
    varies = deviations >= _LEAST_DEVIATION  # the doubt of label maps does not
    deviations = np.where(varies, deviations, 1.0)
    inputs = np.column_stack([np.ones(len(found)), varies * (measures - centres) / deviations])
    weights = np.zeros(inputs.shape[1])
    mean = float(np.clip(found.mean(), 1e-6, 1 - 1e-6))
    weights[0] = np.log(mean / (1 - mean))
    for _ in range(_ROUNDS):
        for term in range(len(weights)):
            expected = 0.5 * (1 + np.tanh(inputs @ weights / 2))
            penalty = _RIDGE if term else 0.0
            slope = inputs[:, term] @ (expected - found) / len(found) + penalty * weights[term]
            curve = inputs[:, term] ** 2 @ (expected * (1 - expected)) / len(found) + penalty
            step = float(np.clip(slope / max(curve, 1e-9), -1, 1))
            weights[term] = max(weights[term] - step, 0.0) if term else weights[term] - step
    terms = {
        name: Term(weight=weights[1 + n], centre=centres[n], deviation=deviations[n])
        for n, name in enumerate(MEASURES)
        if weights[1 + n] > 0
    }
    return float(weights[0]), terms


def predict(
    fitted: tuple[float, dict[Measure, Term]], measures: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the disagreement expected of measured pairs, ``(n,)``."""
    bias, terms = fitted
    model = Staleness(bias, terms)
    return np.array([model.expect_of(row) for row in measures])


def fit_growth(pairs: MeasuredPairs, expected: NDArray[np.float64]) -> float:
    """Fit p of ``d^p``, by which expected disagreement grows with the distance from a key frame.

    The slope of its logarithm over that of the distance, within the pairs of each key frame.
    """
    x, y = np.log(pairs.distances.astype(np.float64)), np.log(np.maximum(expected, 1e-6))
    for key in np.unique(pairs.keys):
        own = pairs.keys == key
        x[own] -= x[own].mean()
        y[own] -= y[own].mean()
    return float(np.clip(x @ y / max(x @ x, 1e-9), 0.0, _MOST_GROWTH))
