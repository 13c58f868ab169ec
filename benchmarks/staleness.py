"""How well staleness is foretold, and how many key frames adaptive needs for the accuracy of fixed.

By default the shipped street model on drawn clips whose camera stands, drives and turns, 30 frames
each; while it stands, traffic goes on. Fitted on clips of one split, measured on those of another.
For key frames each clip begins with 30 frames more, of a robot that waits where nothing moves.
With --bundle and --source on clips of your own, all of one length or cut by --part; --fit names
those to fit on, or --halves has the first half of each fitted on and the second measured, else the
model that the bundle holds is measured. Nothing needs labels: the full network on every frame is
the teacher.

staleness_rank_correlation   Spearman's, of expected and true disagreement over all pairs
staleness_distance_alone     the same of the distance from the key frame
staleness_within_distance    mean of the rank correlations of the pairs at each distance
cut_motion                   largest change of the picture from a frame to the next, as cuts are
                             seen by; cut_scene: 1st percentile of that between clips
staleness_us                 time of measuring a frame and predicting, in microseconds
staleness_cost               part of the frames per second that it costs: of the bundle at l = 10
                             with three frames in flight, against the same bundle without the
                             model, in turns; median over --turns. --only cost measures it alone
adaptive_key_share           key frames that adaptive needs for the mean agreement with the full
                             network that fixed:l has, over those of fixed:l, the largest l; _low
                             and _high are the 5th and 95th percentile of a bootstrap over clips
adaptive_key_share_p95       the same for the agreement of the worst answers, the 95th percentile
adaptive_key_share_moving    the first, of the frames after the wait alone
..._N                        for l = N

--plot draws the mean agreement with the full network against the time that a frame took, in the
mean, for the fixed intervals and for adaptive.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from _common import export_shipped, parser, report
from numpy.typing import NDArray

from dff_edge.bundle.reader import Bundle
from dff_edge.bundle.shipped import find_bundle
from dff_edge.bundle.staleness import MEASURES, StalenessModel
from dff_edge.bundle.writer import BundleWriter
from dff_edge.calibration import calibrate_bundle, open_calibration_clips
from dff_edge.calibration.sampling.clips import Clip
from dff_edge.calibration.staleness import (
    MeasuredPairs,
    fit_staleness,
    measure_pairs,
    plan_stretches,
    predict,
)
from dff_edge.evaluation.staleness import rank_correlation, staleness_quality
from dff_edge.frames import Frame, Result
from dff_edge.report.live_plot import Bought, draw_agreement
from dff_edge.runtime.cuts import changed_share, histograms
from dff_edge.runtime.pipeline import Pipeline
from dff_edge.runtime.policy import Adaptive, FixedInterval, KeyFramePolicy
from dff_edge.runtime.sources.memory import MemorySource
from dff_edge.runtime.staleness import Staleness, measure_motion, small_picture
from dff_edge.runtime.tasks import task_of
from dff_edge.runtime.tasks.decoders import Answer

FIT = "synthetic://street?split=val&clips=12&frames=90&motion=mixed"
SOURCE = "synthetic://street?split=test&clips=8&frames=90&motion=mixed"
THRESHOLDS = "0.05,0.07,0.1,0.14"
RESAMPLES = 1000
SENSOR_NOISE = 2.0  # levels of 255
COST_FRAMES, COST_IMAGES = 200, 30  # of a run


class Part:
    """Consecutive frames of a clip, as a clip in memory.

    Args:
        clip: the clip.
        begin, end: its frames; the last one is not in it.
        waits: frames for which its first picture is seen before, with a sensor's noise.
    """

    def __init__(self, clip: Clip, begin: int, end: int, waits: int = 0) -> None:
        self.name = f"{clip.name}, frames {begin} to {end - 1}"
        images = [clip.image(index) for index in range(begin, end)]
        noise = np.random.default_rng(0)
        still = [
            np.clip(images[0] + noise.normal(0, SENSOR_NOISE, images[0].shape), 0, 255)
            for _ in range(waits)
        ]
        self._images = [image.astype(np.uint8) for image in still] + images

    def __len__(self) -> int:
        return len(self._images)

    def image(self, index: int) -> Any:
        """Return frame ``index`` of the part."""
        return self._images[index]


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

    def bought(self, name: str) -> Bought:
        """Return its agreement with the full network, and its cost."""
        return Bought(name, 1e3 * float(self.latency_s.mean()), 1 - float(self.stale.mean()))


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--bundle", help="folder or name of a model; default: street, exported")
    arguments.add_argument("--fit", help="clips to fit on; default: the bundle's own model")
    arguments.add_argument("--source", default=SOURCE, help="clips to measure on")
    arguments.add_argument("--halves", action="store_true", help="fit on the first half of each")
    arguments.add_argument("--part", type=int, help="split clips in parts of so many frames")
    arguments.add_argument("--precision", default="int8", choices=["fp32", "int8"])
    arguments.add_argument(
        "--waits", type=int, default=30, help="frames for which each clip begins with a still scene"
    )
    arguments.add_argument("--thresholds", default=THRESHOLDS, help="of adaptive, rising")
    arguments.add_argument("--intervals", default="10", help="l of the fixed policies")
    arguments.add_argument("--least", type=int, default=2, help="lower bound of adaptive")
    arguments.add_argument("--turns", type=int, default=15, help="of the two runs of its cost")
    arguments.add_argument("--only", choices=["cost"], help="measure this alone")
    arguments.add_argument("--plot", type=Path, help="draw agreement against cost here, a .png")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="dff-edge-") as folder:
        clips: list[Clip] = list(open_calibration_clips(options.source))
        to_fit = None if options.fit is None else list(open_calibration_clips(options.fit))
        if options.halves:
            to_fit = [Part(clip, 0, len(clip) // 2) for clip in clips]
            clips = [Part(clip, len(clip) // 2, len(clip)) for clip in clips]
        bundle = prepared(options.bundle, to_fit, options.fit or options.source, Path(folder))
        model = bundle.manifest.staleness
        if model is None:
            raise SystemExit(f"{bundle.path} has no model of staleness; fit one, --fit CLIPS.")
        costs = cost(bundle, Path(folder), clips[0], options)
        if options.only == "cost":
            report(costs, {"precision": options.precision}, options.json)
            return
        clips = parts_of(clips, options.part)
        if len({len(clip) for clip in clips}) > 1:
            raise SystemExit("The clips are of different lengths; cut them, --part FRAMES.")
        figures, background = correlation(bundle, model, clips, options.precision)
        shares, more = key_shares(bundle, parts_of(clips, waits=options.waits), options)
    background |= {"source": options.source, "fitted on": model.source} | more
    report(figures | costs | shares, {"precision": options.precision} | background, options.json)


def prepared(name: str | None, to_fit: Sequence[Clip] | None, source: str, folder: Path) -> Bundle:
    """Return a bundle, fitted on the clips if there are any; that of the user is not changed."""

    def say(line: str) -> None:
        print(line, flush=True)

    if name is None:
        bundle = export_shipped(folder / "bundle")
        if to_fit is None:
            to_fit, source = open_calibration_clips(FIT), FIT
        return calibrate_bundle(
            bundle.path,
            to_fit,
            source=source,
            flavours=("ort",),
            precisions=("int8",),
            progress=say,
        )
    if to_fit is None:
        return Bundle.open(find_bundle(name))
    bundle = Bundle.open(shutil.copytree(find_bundle(name), folder / "bundle"))
    with BundleWriter.extend(bundle) as writer:
        writer.update(staleness=fit_staleness(bundle, to_fit, source=source, say=say))
        return writer.commit()


def parts_of(clips: Sequence[Clip], frames: int | None = None, waits: int = 0) -> list[Clip]:
    """Return the clips, or consecutive parts of them of so many frames, in memory."""
    return [
        Part(clip, begin, begin + (frames or len(clip)), waits)
        for clip in clips
        for begin in range(0, len(clip) - (frames or len(clip)) + 1, frames or len(clip))
    ]


def correlation(
    bundle: Bundle, model: StalenessModel, clips: Sequence[Clip], precision: Any
) -> tuple[dict[str, float], dict[str, Any]]:
    """Compare expected and true disagreement on pairs of the clips."""
    stretches = plan_stretches([len(clip) for clip in clips])
    pairs = measure_pairs(bundle, clips, stretches, precision)
    expected = predict((model.bias, model.terms), pairs.measures)
    quality = staleness_quality(pairs.distances, expected, pairs.found)
    figures = {
        "staleness_rank_correlation": quality.rank_correlation,
        "staleness_distance_alone": quality.distance_alone,
        "staleness_within_distance": quality.within_distance,
        **cut_figures(clips),
    }
    background = {
        "pairs": len(pairs.found),
        "true disagreement, mean and largest": (
            round(float(pairs.found.mean()), 4),
            round(float(pairs.found.max()), 4),
        ),
        "expected, found": [(own.expected, own.found) for own in quality.calibration],
        "weights": {name: round(term.weight, 3) for name, term in model.terms.items()},
        "growth with distance": round(model.growth, 3),
        "rank correlation of each measure alone": alone(pairs),
    }
    for name, value in figures.items():
        print(f"{name}={value:.4g}", flush=True)
    return figures, background


def alone(pairs: MeasuredPairs) -> dict[str, float]:
    """Return the rank correlation of each measure with the true disagreement."""
    return {
        name: round(rank_correlation(pairs.measures[:, n], pairs.found), 3)
        for n, name in enumerate(MEASURES)
    }


def cut_figures(clips: Sequence[Clip]) -> dict[str, float]:
    """Return how much motion changes a picture, and how much another scene does."""
    seen = [[histograms(clip.image(index)) for index in range(len(clip))] for clip in clips]
    motion = [changed_share(*pair) for own in seen for pair in pairwise(own)]
    scenes = [changed_share(a[0], b[0]) for a, b in combinations(seen, 2)]
    return {"cut_motion": max(motion), "cut_scene": float(np.percentile(scenes, 1))}


def microseconds(bundle: Bundle, runs: int = 300) -> float:
    """Return the median time of measuring a frame of the bundle."""
    manifest, random = bundle.manifest, np.random.default_rng(0)
    assert manifest.staleness is not None
    model = Staleness(manifest.staleness.bias, manifest.staleness.terms)
    cells = tuple(side // manifest.stride for side in manifest.frame_size)
    flow = random.normal(0, 1, (1, *cells, 2)).astype(np.float32)
    halves = random.integers(
        0, 256, (2, 1, *(side // 2 for side in manifest.frame_size), 3), np.uint8
    )
    key = small_picture(halves[0], cells)
    answer, times = Answer(), []
    for _ in range(runs):
        start_s = time.perf_counter()
        model.expect(measure_motion(3, flow, key, small_picture(halves[1], cells)), answer)
        times.append((time.perf_counter() - start_s) * 1e6)
    return float(np.median(times))


def cost(bundle: Bundle, folder: Path, clip: Clip, options: Any) -> dict[str, float]:
    """Run the bundle with and without its model in turns; frames are in memory."""
    without = Bundle.open(shutil.copytree(bundle.path, folder / "without"))
    with BundleWriter.extend(without) as writer:
        writer.update(staleness=None)
        without = writer.commit()
    images = [clip.image(index) for index in range(min(len(clip), COST_IMAGES))]
    with ExitStack() as stack:

        def run_of(one: Bundle) -> Callable[[], None]:
            pipeline = stack.enter_context(
                Pipeline.open(
                    one, precision=options.precision, policy="fixed:10", threads=options.threads
                )
            )
            return lambda: deque(pipeline.run(MemorySource(images, COST_FRAMES)), maxlen=0)

        runs = [run_of(bundle), run_of(without)]
        seconds = np.array([[timed(run) for run in runs] for _ in range(options.turns + 1)])
    own_s, without_s = seconds[1:].T  # the first turn allocates
    return {
        "staleness_us": microseconds(bundle),
        "staleness_cost": float(np.median(1 - without_s / own_s)),
    }


def timed(run: Callable[[], Any]) -> float:
    """Return the seconds that a run takes."""
    start_s = time.perf_counter()
    run()
    return time.perf_counter() - start_s


def key_shares(
    bundle: Bundle, clips: Sequence[Clip], options: Any
) -> tuple[dict[str, float], dict[str, Any]]:
    """Compare adaptive with fixed intervals at equal agreement with the full network."""
    thresholds = [float(text) for text in options.thresholds.split(",")]
    policies: list[KeyFramePolicy] = [
        *(FixedInterval(int(text)) for text in options.intervals.split(",")),
        *(Adaptive(threshold, options.least) for threshold in thresholds),
    ]
    full = [
        [own.answer for own in clip] for clip in answered(bundle, FixedInterval(1), clips, options)
    ]
    runs: list[Run] = []
    for policy in policies:
        results = answered(bundle, policy, clips, options)
        stale = [
            differences(bundle, [result.answer for result in own], others)
            for own, others in zip(results, full, strict=True)
        ]
        keys = [[result.is_key for result in own] for own in results]
        latency_s = [[result.latency_s for result in own] for own in results]
        runs.append(Run(np.array(keys), np.array(stale), np.array(latency_s)))
        count, mean = runs[-1].of(np.arange(len(clips)), worst=False)
        print(f"{policy}: {count:.0f} key frames, {mean:.4f} stale", flush=True)
    fixed = [policy.interval for policy in policies if isinstance(policy, FixedInterval)]
    if options.plot:
        named = [f"l = {interval}" for interval in fixed] + [f"{one:g}" for one in thresholds]
        points = [run.bought(name) for name, run in zip(named, runs, strict=True)]
        lines = {"fixed": points[: len(fixed)], "adaptive": points[len(fixed) :]}
        options.plot.write_bytes(draw_agreement(lines))
    figures: dict[str, float] = {}
    for number, interval in enumerate(fixed):
        own, curve = runs[number], runs[len(fixed) :]
        last = f"_{interval}" * (interval != max(fixed))
        figures |= shares(f"adaptive_key_share{last}", own, curve, worst=False)
        figures |= shares(f"adaptive_key_share_p95{last}", own, curve, worst=True)
        if options.waits:
            own, curve = own.after(options.waits), [one.after(options.waits) for one in curve]
            figures |= shares(f"adaptive_key_share_moving{last}", own, curve, worst=False)
    return figures, {"frames": sum(len(clip) for clip in clips)}


def answered(
    bundle: Bundle, policy: KeyFramePolicy, clips: Sequence[Clip], options: Any
) -> list[list[Result]]:
    """Return the results of each clip."""
    with Pipeline.open(
        bundle, precision=options.precision, policy=policy, depth=1, threads=options.threads
    ) as pipeline:
        return [
            list(pipeline.run(Frame(clip.image(i), i, i / 30) for i in range(len(clip))))
            for clip in clips
        ]


def differences(bundle: Bundle, answers: list[Any], full: list[Any]) -> list[float]:
    """Return the share of each answer that differs from the full network's."""
    task = task_of(bundle.manifest)
    same = [task.shared(*pair) for pair in zip(answers, full, strict=True)]
    return [1 - part / total if total else 0.0 for part, total in same]


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
    """Return key frames of adaptive where it differs as much as a fixed policy, over the latter's.

    Between two thresholds, key frames go linearly with the difference; NaN beyond them.
    """
    keys, wanted = fixed.of(clips, worst)
    points = sorted(run.of(clips, worst)[::-1] for run in curve)
    stale, own = (np.array(values) for values in zip(*points, strict=True))
    if not stale[0] <= wanted <= stale[-1]:
        return float("nan")
    return float(np.interp(wanted, stale, own)) / keys


if __name__ == "__main__":
    main()
