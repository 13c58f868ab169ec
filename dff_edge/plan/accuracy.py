"""Accuracy that a run leads to: that of its answers at their distances, over all captured frames.

A frame that was not answered keeps the answer before it. How an answer ages is measured like the
accuracy at a distance: the full network's answer to an earlier frame, scored by this frame's truth.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from dff_edge.bundle.reader import Bundle
from dff_edge.data.datasets import LabelledClip
from dff_edge.errors import ConfigError
from dff_edge.evaluation.bundle_predictor import BundlePredictor
from dff_edge.evaluation.tasks import MEASURED_TASKS
from dff_edge.names import Flavour, Precision
from dff_edge.plan.candidates import Graphs

_DISTANCES = (0, 1, 2, 3, 5, 8, 12, 18, 27, 40, 60)  # measured ones; between them linear
_MIN_KNOWN = 0.98  # share of frames whose accuracy is known, for the mean to be more than a bound
_MIN_FRAMES, _MAX_FRAMES = 4, 100

Shown = Mapping[tuple[int, int], int]  # see ``Forecast.shown``


class Estimate(NamedTuple):
    """Accuracy over the captured frames of a run.

    Attributes:
        value: 0..1.
        is_bound: whether it is at most that: some frames have older features, or kept an answer
            for longer, than was ever measured.
    """

    value: float
    is_bound: bool


@dataclass(frozen=True)
class Curve:
    """Accuracy of one precision by distance.

    Attributes:
        at: by distance from the key frame in frames, 0 included.
        held: of the full network's answer, by the frames that it was kept for; empty where that
            is not known, and a frame that keeps an answer then counts as if it had been answered
            from the same features, which is more than it gets.
    """

    at: Mapping[int, float]
    held: Mapping[int, float] = field(default_factory=dict)

    def expected(self, shown: Shown) -> Estimate:
        """Return the mean over captured frames, each with the answer that it is left with."""
        total, known = 0.0, 0
        for (distance, held), count in shown.items():
            if held and self.held:
                kept = _between(self.held, held) / (self.at[0] or 1.0)
                total += count * min(kept, 1.0) * _between(self.at, distance)
                known += count * (held <= max(self.held) and distance <= max(self.at))
            else:
                total += count * _between(self.at, distance + held)
                known += count * (not held and distance <= max(self.at))
        frames = sum(shown.values())
        return Estimate(total / frames, known < _MIN_KNOWN * frames)


def _between(points: Mapping[int, float], x: int) -> float:
    """Interpolate; beyond the last point, its value."""
    xs = sorted(points)
    return float(np.interp(x, xs, [points[each] for each in xs]))


def recorded_curve(bundle: Bundle, precision: Precision, flavour: Flavour) -> Curve | None:
    """Return the accuracy that ``benchmark --record`` wrote into a bundle; None without one.

    Of several data sets the last counts.
    """
    key = MEASURED_TASKS.find(bundle.manifest.task).metric.key
    at = {
        record.distance: value
        for record in bundle.manifest.accuracy
        if record.precision == precision and record.flavour == flavour
        if record.distance is not None and (value := getattr(record, key)) is not None
    }
    return Curve(at) if 0 in at else None


def distances_up_to(most: int) -> tuple[int, ...]:
    """Return the distances to be measured, up to the first that is ``most`` or more."""
    count = sum(distance < most for distance in _DISTANCES) + 1
    return _DISTANCES[:count]


def measure_curves(
    bundle: Bundle,
    clips: Sequence[LabelledClip],
    graphs: Sequence[Graphs],
    most: int,
    *,
    seconds: float,
) -> tuple[dict[Graphs, Curve], int]:
    """Measure the accuracy of some precisions, each in an engine, on the same frames.

    Args:
        bundle: the model.
        clips: video with labels, or with those of the full network (``footage.TaughtClip``).
        graphs: the precisions and engines.
        most: the largest distance of interest; clips that are shorter lower it.
        seconds: after which no further frame is taken, once there are a few.

    Returns:
        A curve for each, and the number of frames that were scored.

    Raises:
        ConfigError: no labelled frame has a frame before it.
        SourceError: a label or image cannot be used.
    """
    names, task = bundle.manifest.class_names, MEASURED_TASKS.find(bundle.manifest.task)
    labelled = [
        (clip, index) for clip in clips for index in range(1, len(clip)) if clip.is_labelled(index)
    ]
    if not labelled:
        raise ConfigError(
            "no clip of the source has a labelled frame with a frame before it, which accuracy by "
            "distance needs; give longer clips."
        )
    longest = max(index for _, index in labelled)
    distances = [d for d in distances_up_to(most) if d <= longest]
    places = [(clip, index) for clip, index in labelled if index >= distances[-1]]
    end_s = time.monotonic() + seconds
    scored = 0
    with ExitStack() as stack:
        predictors = {
            (precision, engine): stack.enter_context(
                BundlePredictor(bundle, precision, None, engine)
            )
            for precision, engine in graphs
        }
        moved = {own: task.tally(names, len(distances)) for own in predictors}
        held = {own: task.tally(names, len(distances)) for own in predictors}
        for clip, index in _spread(places):
            if scored >= _MIN_FRAMES and time.monotonic() > end_s:
                break
            read = lru_cache(maxsize=None)(clip.image)
            image = read(index)
            truth = moved[next(iter(moved))].truth(clip, index, (image.shape[0], image.shape[1]))
            if truth is None:
                continue
            scored += 1
            for own, predictor in predictors.items():
                for number, distance in enumerate(distances):
                    key = predictor.extract(read(index - distance))
                    full = predictor.predict(key, None)
                    held[own].add(number, truth, full)
                    answer = predictor.predict(key, image) if distance else full
                    moved[own].add(number, truth, answer)
    if not scored:
        raise ConfigError(
            f"no frame of the source is labelled for {bundle.manifest.task}, whose label is "
            f"{task.answers}. Give data of that kind."
        )
    curves = {}
    for own in predictors:
        propagated, kept = moved[own].accuracy(), held[own].accuracy()
        at = [propagated.at_distance(number) for number in range(len(distances))]
        if any(map(math.isnan, at)):
            raise ConfigError("nothing was scored: all labels of the source are to be ignored.")
        held_at = [kept.at_distance(number) for number in range(len(distances))]
        curves[own] = Curve(
            dict(zip(distances, at, strict=True)), dict(zip(distances, held_at, strict=True))
        )
    return curves, scored


def _spread(
    places: Sequence[tuple[LabelledClip, int]],
) -> list[tuple[LabelledClip, int]]:
    """Return some places in an order that is spread over all of them from the beginning on."""
    count = min(len(places), _MAX_FRAMES)
    chosen = [places[number * len(places) // count] for number in range(count)]
    # By the bits of the number from the lowest on: halves, quarters, ... (van der Corput).
    bits = max(count - 1, 1).bit_length()
    return [chosen[n] for n in sorted(range(count), key=lambda n: f"{n:0{bits}b}"[::-1])]
