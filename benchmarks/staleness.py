"""How well staleness is foretold, and how many key frames policies by it need beside fixed ones.

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
saving_...                   the same of the policy saving
key_share_bound              the least for the mean that any policy could need, knowing how stale
                             every frame would be from every key frame less than 30 before it
..._N                        for l = N

--plot draws the mean agreement with the full network against the mean time of a frame, for the
fixed intervals, adaptive and saving: key frames and others, as many as there were, each kind at its
median over all runs.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from _common import export_shipped, parser, report
from _key_shares import Answers, shares, times_of

from dff_edge.boxes import Detections
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
from dff_edge.report.live_plot import draw_agreement
from dff_edge.runtime.cuts import changed_share, histograms
from dff_edge.runtime.pipeline import Pipeline
from dff_edge.runtime.policy import Adaptive, FixedInterval, ForetoldPolicy, Saving
from dff_edge.runtime.sources.memory import MemorySource
from dff_edge.runtime.staleness import Staleness, measure_motion, small_picture
from dff_edge.runtime.tasks.decoders import Answer

FIT = "synthetic://street?split=val&clips=12&frames=90&motion=mixed"
SOURCE = "synthetic://street?split=test&clips=8&frames=90&motion=mixed"
THRESHOLDS = "0.05,0.07,0.1,0.14"
SAVINGS = "0.1,0.2,0.35,0.6,1"
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
    arguments.add_argument("--savings", default=SAVINGS, help="answers of saving, rising")
    arguments.add_argument(
        "--no-bound", action="store_true", help="leave out key_share_bound, which takes long"
    )
    arguments.add_argument("--intervals", default="10", help="l of the fixed policies")
    arguments.add_argument(
        "--least", type=int, default=2, help="lower bound of adaptive and saving"
    )
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
    some = np.linspace(0.9, 0.1, 20, dtype=np.float32)
    found = Detections(np.zeros((20, 4), np.float32), some, np.zeros(20, np.int32))
    answer, times = Answer(detections=found), []
    for _ in range(runs):
        start_s = time.perf_counter()
        model.expect(measure_motion(3, flow, key, small_picture(halves[1], cells)), answer, 1.0)
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
    """Compare policies with fixed intervals at equal agreement with the full network."""
    fixed = [FixedInterval(int(text)) for text in options.intervals.split(",")]
    foretold: dict[str, list[ForetoldPolicy]] = {
        "adaptive": [Adaptive(limit, options.least) for limit in numbers(options.thresholds)],
        "saving": [Saving(limit, options.least) for limit in numbers(options.savings)],
    }
    answers = Answers(bundle, clips, options)
    own = [answers.run(policy) for policy in fixed]
    curves = {
        name: [answers.run(policy) for policy in policies] for name, policies in foretold.items()
    }
    bound = None if options.no_bound else answers.bound()
    if options.plot:
        times = times_of([*own, *(run for curve in curves.values() for run in curve)])
        lines = {
            "fixed": [
                run.bought(f"{policy.interval}", *times)
                for policy, run in zip(fixed, own, strict=True)
            ]
        }
        for name, policies in foretold.items():
            runs = zip(policies, curves[name], strict=True)
            lines[name] = [run.bought(f"{policy.limit:g}", *times) for policy, run in runs]
        options.plot.write_bytes(draw_agreement(lines))
    figures: dict[str, float] = {}
    for policy, run in zip(fixed, own, strict=True):
        last = f"_{policy.interval}" * (policy.interval != max(one.interval for one in fixed))
        for name, curve in curves.items():
            figures |= shares(f"{name}_key_share{last}", run, curve, worst=False)
            figures |= shares(f"{name}_key_share_p95{last}", run, curve, worst=True)
            if options.waits:
                moving = [one.after(options.waits) for one in curve]
                still = run.after(options.waits)
                figures |= shares(f"{name}_key_share_moving{last}", still, moving, worst=False)
        if bound is not None:
            figures[f"key_share_bound{last}"] = run.share_of(bound)
    return figures, {"frames": sum(len(clip) for clip in clips)}


def numbers(text: str) -> list[float]:
    """Return the numbers of an option, separated by commas."""
    return [float(number) for number in text.split(",")]


if __name__ == "__main__":
    main()
