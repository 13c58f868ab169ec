"""Accuracy of a live run: key frames in the background, in order, and lighter work on every frame.

The accurate CamVid model on `val`, 101 labelled frames of a car, as a camera of 15 Hz (--camvid
FOLDER, which has train/ and val/), and the model `street` on drawn clips at 30 Hz. Each way answers
the same clips, from memory through a paced source: the newest frame, older ones dropped. Frame 0 is
answered before the camera begins; all other captured frames are scored. A frame is left with the
latest answer that was ready when the next frame was captured, its own or that of a frame before. By
the second rule, ..._any_age, it has its own answer however late that was ready, and if it was not
answered at all, the answer before it.

Ways: `background` with the policy idle; in order at each of --intervals; `per frame`, the same
network on every frame; `lighter`, the model camvid on every frame, at its own size. All have the
same precision and cores. A network keeps up where it answers 99% of the frames. Ways take turns;
a figure is the median of the rounds. Figures of the drawn clips end in _drawn.

background_accuracy_gain    accuracy over all captured frames in the background, less that of the
                            best of these: in order with its best interval, and networks on every
                            frame that keep up; points of mIoU
background_gain_over_all    the same less the best of all other ways, whether they keep up or not
background_accuracy, in_order_accuracy, per_frame_accuracy, lighter_accuracy    mIoU, %; in_order_
                            is that of the best interval
..._answered_share          part of the captured frames that was answered
..._age_p50_ms, ..._age_p99_ms      of answers, from capture
..._distance_p50, ..._distance_p99  of answers from their key frames, in frames

A slower device is had by --cores 1, by --precision fp32, or by --frame-size, at which the model of
each case is exported anew; the lighter one and the camera's frames stay as they are.
"""

from __future__ import annotations

import os
import statistics
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from _common import export_shipped, parser, report
from _live import Played, play

from dff_edge.bundle.reader import Bundle
from dff_edge.calibration import calibrate_bundle, open_calibration_clips
from dff_edge.cli.parameters import FrameSize
from dff_edge.data.clips import open_clips
from dff_edge.data.datasets import LabelledClip
from dff_edge.evaluation.tasks import MEASURED_TASKS
from dff_edge.plan.timing import warm_up, without_advice
from dff_edge.runtime.engines.base import usable_cores
from dff_edge.runtime.pipeline import Pipeline

STREET_FIT = "synthetic://street?split=val&clips=4&frames=12"
DRAWN = "synthetic://street?split=test&clips=4&frames=60"
KEEPS_UP = 0.99


@dataclass(frozen=True)
class Case:
    """A model and the video that it is measured on.

    Attributes:
        model, lighter: names of shipped models; None where there is no lighter one.
        fit: clips to calibrate on.
        source: labelled clips to measure on.
        rate: of the camera, frames per second.
        suffix: of its figures.
    """

    model: str
    lighter: str | None
    fit: str
    source: str
    rate: float
    suffix: str = ""


@dataclass
class Way:
    """A way to answer a camera, and its outcome in each round.

    Attributes:
        is_every: whether every frame is a key frame.
        accuracy, any_age: mIoU of each round, %, by either rule.
        shares: part of the captured frames that was answered, of each round.
        ages_ms, distances: of the answers of all rounds.
    """

    is_every: bool = False
    accuracy: list[float] = field(default_factory=list)
    any_age: list[float] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)
    ages_ms: list[float] = field(default_factory=list)
    distances: list[int] = field(default_factory=list)

    @property
    def keeps_up(self) -> bool:
        """Whether it answers nearly every frame."""
        return statistics.median(self.shares) >= KEEPS_UP

    def figures(self) -> dict[str, float]:
        """Return its figures by the ends of their names."""
        return {
            "accuracy": statistics.median(self.accuracy),
            "accuracy_any_age": statistics.median(self.any_age),
            "answered_share": statistics.median(self.shares),
            "age_p50_ms": float(np.percentile(self.ages_ms, 50)),
            "age_p99_ms": float(np.percentile(self.ages_ms, 99)),
            "distance_p50": float(np.percentile(self.distances, 50)),
            "distance_p99": float(np.percentile(self.distances, 99)),
        }


def main() -> None:
    options = arguments()
    if options.cores is not None:  # before any library counts them
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.cores])
    cases = [Case("street", None, STREET_FIT, options.drawn, 30.0, "_drawn")]
    if options.only == "camvid":
        cases.clear()
    if options.camvid is not None and options.only != "drawn":
        # To calibrate on, a folder: camvid:// makes a clip of each frame, which has no pairs.
        train, val = str(options.camvid / "train"), f"camvid://{options.camvid}?split=val"
        cases.insert(0, Case("camvid-accurate", "camvid", train, val, 15.0))
    figures: dict[str, float] = {}
    background: dict[str, Any] = {
        "precision": options.precision,
        "frame size": options.frame_size or "the models' own",
        "cores": usable_cores(),
        "load before": round(os.getloadavg()[0], 1),
    }
    with tempfile.TemporaryDirectory(prefix="dff-edge-") as temporary, without_advice():
        folder = options.bundles or Path(temporary)
        for case in cases:
            own, ways = measure(case, folder, options)
            figures |= own
            background |= ways
    report(figures, background | {"load after": round(os.getloadavg()[0], 1)}, options.json)


def arguments() -> Any:
    arguments = parser(__doc__)
    arguments.set_defaults(threads=None)
    arguments.add_argument("--camvid", type=Path, help="CamVid's folder; else drawn clips alone")
    arguments.add_argument("--drawn", default=DRAWN, help="clips for the model street")
    arguments.add_argument("--bundles", type=Path, help="keep the bundles here and use them again")
    arguments.add_argument("--precision", default="int8", choices=["fp32", "int8"])
    arguments.add_argument(
        "--frame-size",
        type=lambda text: FrameSize().convert(text, None, None),
        metavar="HEIGHTxWIDTH",
        help="of the networks, as of `dff-edge export`",
    )
    arguments.add_argument("--cores", type=int, help="that the process may use")
    arguments.add_argument("--only", choices=["camvid", "drawn"], help="measure this alone")
    arguments.add_argument("--intervals", default="2,3,5,10", help="l of the ways in order")
    arguments.add_argument("--runs", type=int, default=3, help="rounds")
    options = arguments.parse_args()
    if options.only == "camvid" and options.camvid is None:
        arguments.error("--only camvid needs the data, --camvid FOLDER.")
    return options


def measure(case: Case, folder: Path, options: Any) -> tuple[dict[str, float], dict[str, Any]]:
    """Play the clips of a case in each way, in turns; figures, and what they rest on."""
    heavy = prepared(case.model, case.fit, folder, options.precision, options.frame_size)
    clips = open_clips(case.source)
    videos = [[clip.image(index) for index in range(len(clip))] for clip in clips]
    with ExitStack() as stack:

        def opened(bundle: Bundle, keys: str, policy: str) -> Pipeline:
            pipeline = Pipeline.open(
                bundle,
                precision=options.precision,
                policy=policy,
                depth=1,
                threads=options.threads,
                keys=keys,
            )
            return stack.enter_context(pipeline)

        pipelines = {
            "background": opened(heavy, "background", "idle"),
            **{
                f"in order, l = {interval}": opened(heavy, "in-order", f"fixed:{interval}")
                for interval in map(int, options.intervals.split(","))
            },
            "per frame": opened(heavy, "in-order", "fixed:1"),
        }
        if case.lighter is not None:
            light = prepared(case.lighter, case.fit, folder, options.precision, None)
            pipelines["lighter"] = opened(light, "in-order", "fixed:1")
        ways = {name: Way(is_every=name in ("per frame", "lighter")) for name in pipelines}
        for _ in range(options.runs):
            for name, pipeline in pipelines.items():
                warm_up(pipeline, videos[0][:3])
                played = [play(pipeline, images, case.rate) for images in videos]
                add(ways[name], heavy, clips, played)
                print(f"{case.model}, {name}: {told(ways[name])}", flush=True)
        schedule = str(pipelines["background"].schedule)
    rows = {f"{case.model}, {name}": told(way) for name, way in ways.items()}
    return figures_of(case, ways), rows | {f"{case.model}, schedule": schedule}


def prepared(
    model: str, fit: str, folder: Path, precision: str, frame_size: tuple[int, int] | None
) -> Bundle:
    """Return a shipped model's bundle at a frame size: made, or what is there."""
    size = "own" if frame_size is None else f"{frame_size[0]}x{frame_size[1]}"
    path = folder / f"{model}-{size}"
    bundle = Bundle.open(path) if path.is_dir() else export_shipped(path, model, frame_size)
    if precision == "int8" and "int8" not in bundle.precisions:
        clips = open_calibration_clips(fit)
        bundle = calibrate_bundle(path, clips, source=fit, flavours=("ort",), precisions=("int8",))
    return bundle


def add(way: Way, bundle: Bundle, clips: list[LabelledClip], played: list[Played]) -> None:
    """Add a round: score each captured frame by both rules."""
    names, task = bundle.manifest.class_names, MEASURED_TASKS.find(bundle.manifest.task)
    for in_time, accuracies in ((True, way.accuracy), (False, way.any_age)):
        tally = task.tally(names, 1)
        for clip, own in zip(clips, played, strict=True):
            for index, answer in enumerate(own.left_with(in_time=in_time), 1):
                truth = tally.truth(clip, index, clip.image(index).shape[:2])
                if truth is not None:
                    tally.add(0, truth, answer.content)
        accuracies.append(100 * tally.accuracy().at_interval(1))
    answers = [answer for own in played for answer in own.answers[1:]]
    way.shares.append(len(answers) / sum(own.frames - 1 for own in played))
    way.ages_ms += [1e3 * answer.age_s for answer in answers]
    way.distances += [answer.distance for answer in answers]


def told(way: Way) -> str:
    """Return a way's figures in words."""
    own = way.figures()
    return (
        f"mIoU {own['accuracy']:.1f} (any age {own['accuracy_any_age']:.1f}), "
        f"{own['answered_share']:.0%} answered, age p50 {own['age_p50_ms']:.1f} ms, p99 "
        f"{own['age_p99_ms']:.1f} ms, distance p50 {own['distance_p50']:.0f}, "
        f"p99 {own['distance_p99']:.0f}"
    )


def figures_of(case: Case, ways: dict[str, Way]) -> dict[str, float]:
    """Return the figures of a case."""
    behind = ways["background"]
    others = {name: way for name, way in ways.items() if way is not behind}
    in_order = max(
        (way for name, way in ways.items() if name.startswith("in order")),
        key=lambda way: statistics.median(way.accuracy),
    )
    counted = [way for way in others.values() if not way.is_every or way.keeps_up]

    def gain(rivals: list[Way], rule: str) -> float:
        own, *rest = (statistics.median(getattr(way, rule)) for way in (behind, *rivals))
        return own - max(rest)

    figures = {
        "background_accuracy_gain": gain(counted, "accuracy"),
        "background_accuracy_gain_any_age": gain(counted, "any_age"),
        "background_gain_over_all": gain(list(others.values()), "accuracy"),
    }
    figures["in_order_interval"] = next(
        float(name.rpartition("=")[2]) for name, way in ways.items() if way is in_order
    )
    named = {"background": behind, "in_order": in_order, "per_frame": ways["per frame"]}
    if "lighter" in ways:
        named["lighter"] = ways["lighter"]
    for name, way in named.items():
        figures |= {f"{name}_{end}": value for end, value in way.figures().items()}
    return {f"{name}{case.suffix}": value for name, value in figures.items()}


if __name__ == "__main__":
    main()
