"""A heavy network at camera rate: key frames in the background against in order, live.

ResNet-101 + FlowNet Inception in INT8 at 512x1024, C = 1024, 20 classes, random weights: speed does
not depend on them. The bundle is exported and calibrated on drawn scenes; with --bundle it is kept.
Drawn frames are in memory, and a paced source hands them out at --rate as a camera would: the
newest frame, older ones dropped and counted. The camera begins when the first key frame is done.
Runs take turns; a figure is the median of the runs, percentiles are over the frames of one.

background_p99_over_alone   99th percentile of the age of results, from capture, with key frames in
                            the background, over the median age of the short path alone: resize,
                            flow, warp, task network and decoding, without any key frame
background_answered_share   part of the camera's frames that was answered, in the background
in_order_answered_share     in order, with a key frame for every 10th answered frame
in_order_p99_ms, background_p99_ms   99th percentile of the age
background_overhead         median age in the background over that of the short path alone
background_distance_p50, background_distance_p99   of results from their key frames, in frames
idle_cpu_share              time of cores that an open pipeline uses when no frame comes, over one

--plot draws the age of each answer over time, in the background and in order, of the last round;
--timelines their stages on each stream, as in_order.png and background.png.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from _common import FRAME_SIZE, bits_of, parser, report, street_images
from pipeline import make_bundle

from dff_edge.bundle.reader import Bundle
from dff_edge.frames import Frame, Image
from dff_edge.report.live_plot import Aged, draw_ages
from dff_edge.report.timeline import draw_timeline
from dff_edge.runtime.engines.base import usable_cores
from dff_edge.runtime.pipeline import Pipeline
from dff_edge.runtime.policy import FrameContext, KeyFramePolicy
from dff_edge.runtime.sources.memory import MemorySource
from dff_edge.runtime.sources.paced import PacedSource
from dff_edge.runtime.trace import StageSpan, Trace

ANSWERED_INTERVAL = 10
IDLE_S = 2.0


class Never(KeyFramePolicy):
    """No key frame but the first: what is left is the short path."""

    def is_key(self, context: FrameContext) -> bool:
        """See ``KeyFramePolicy``."""
        return False


class EveryTenthAnswer(KeyFramePolicy):
    """A key frame for every 10th answered frame, however many are dropped between."""

    def __init__(self) -> None:
        self._answered = 0

    def is_key(self, context: FrameContext) -> bool:
        """See ``KeyFramePolicy``."""
        self._answered += 1
        return self._answered % ANSWERED_INTERVAL == 0


@dataclass
class Run:
    """Outcome of a camera's frames.

    Attributes:
        captured: frames that the camera gave.
        captured_s: when the frame of each result was captured, since the first of them.
        ages_ms: of each result, from capture.
        distances: of each result from its key frame.
        keys: numbers of the key frames that answered.
        spans: of its stages, if they are traced.
    """

    captured: int
    captured_s: list[float] = field(default_factory=list)
    ages_ms: list[float] = field(default_factory=list)
    distances: list[int] = field(default_factory=list)
    keys: set[int] = field(default_factory=set)
    spans: list[StageSpan] = field(default_factory=list)

    @property
    def answered_share(self) -> float:
        """Part of the frames that was answered."""
        return len(self.ages_ms) / self.captured

    def age_ms(self, percent: float) -> float:
        """A percentile of the ages."""
        return float(np.percentile(self.ages_ms, percent))

    def __str__(self) -> str:
        return (
            f"{len(self.ages_ms)} of {self.captured} frames, age p50 {self.age_ms(50):.1f} ms, "
            f"p99 {self.age_ms(99):.1f} ms, {len(self.keys)} key frames, distance p50 "
            f"{np.percentile(self.distances, 50):.0f}, p99 {np.percentile(self.distances, 99):.0f}"
        )


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--bundle", type=Path, help="keep the bundle here and use it again")
    arguments.add_argument(
        "--frames", type=int, default=1000, help="that the camera gives in a run"
    )
    arguments.add_argument("--runs", type=int, default=5)
    arguments.add_argument("--rate", type=float, default=30.0, help="of the camera, a second")
    arguments.add_argument("--engine", default="onnxruntime", choices=["onnxruntime", "openvino"])
    arguments.add_argument(
        "--feature-threads", type=int, help="of the feature network; default: measured"
    )
    arguments.add_argument("--plot", type=Path, help="draw ages over time here, a .png")
    arguments.add_argument("--timelines", type=Path, help="draw timelines into this folder")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="dff-edge-") as folder:
        bundle = make_bundle(options.bundle or Path(folder) / "bundle")
        images = street_images(FRAME_SIZE, 30)
        figures, background = measure(bundle, images, options)
    report(figures, {"int8 weight bits": bits_of(bundle)} | background, options.json)


def measure(
    bundle: Bundle, images: list[Image], options: Any
) -> tuple[dict[str, float], dict[str, Any]]:
    """Run the camera on each way in turns; figures, and what they rest on."""
    loads = [os.getloadavg()[0]]
    runs: dict[str, list[Run]] = {"alone": [], "background": [], "in order": []}
    with ExitStack() as stack:

        def opened(keys: str, threads: int | None, engine: str) -> tuple[Pipeline, Trace]:
            trace = Trace()
            pipeline = Pipeline.open(
                bundle,
                precision="int8",
                depth=1,
                keys=keys,
                threads=threads,
                engine=engine,
                trace=trace if options.timelines else None,
            )
            return stack.enter_context(pipeline), trace

        behind, behind_trace = opened("background", options.feature_threads, options.engine)
        in_order, in_order_trace = opened("in-order", options.threads, options.engine)
        idle = behind.policy
        for _ in range(options.runs):
            for way in runs:
                is_in_order = way == "in order"
                pipeline = in_order if is_in_order else behind
                trace = in_order_trace if is_in_order else behind_trace
                trace.spans.clear()  # of the run before
                policy: KeyFramePolicy = {"alone": Never(), "in order": EveryTenthAnswer()}.get(
                    way, idle
                )
                runs[way].append(play(pipeline, policy, images, options.frames, options.rate))
                runs[way][-1].spans = list(trace.spans)
                print(f"{way}: {runs[way][-1]}", flush=True)
            loads.append(os.getloadavg()[0])
        behind.reset()
        idle_share = cpu_share(IDLE_S)

    draw({way: runs[way][-1] for way in ("background", "in order")}, options)

    def median(way: str, percent: float) -> float:
        return statistics.median(run.age_ms(percent) for run in runs[way])

    def distance(percent: float) -> float:
        return statistics.median(
            float(np.percentile(run.distances, percent)) for run in runs["background"]
        )

    pairs = list(zip(runs["background"], runs["alone"], strict=True))
    figures = {
        "background_p99_over_alone": statistics.median(
            own.age_ms(99) / alone.age_ms(50) for own, alone in pairs
        ),
        "background_answered_share": statistics.median(
            run.answered_share for run in runs["background"]
        ),
        "in_order_answered_share": statistics.median(
            run.answered_share for run in runs["in order"]
        ),
        "in_order_p99_ms": median("in order", 99),
        "background_p99_ms": median("background", 99),
        "background_overhead": statistics.median(
            own.age_ms(50) / alone.age_ms(50) for own, alone in pairs
        ),
        "background_distance_p50": distance(50),
        "background_distance_p99": distance(99),
        "idle_cpu_share": idle_share,
    }
    background = {
        "engine": options.engine,
        "schedule": str(behind.schedule),
        "usable cores": usable_cores(),
        "short path alone, p50 and p99 of the age, ms": (median("alone", 50), median("alone", 99)),
        "load before and after each round": [round(load, 1) for load in loads],
    }
    return figures, background


def draw(runs: dict[str, Run], options: Any) -> None:
    """Draw the pictures that were asked for."""
    if options.plot:
        answers = {
            way: [Aged(*pair) for pair in zip(run.captured_s, run.ages_ms, strict=True)]
            for way, run in runs.items()
        }
        options.plot.write_bytes(draw_ages(answers))
    if options.timelines:
        for way, run in runs.items():
            path = options.timelines / f"{way.replace(' ', '_')}.png"
            path.write_bytes(draw_timeline(run.spans))


def play(
    pipeline: Pipeline, policy: KeyFramePolicy, images: list[Image], count: int, rate: float
) -> Run:
    """Answer a camera that gives ``count`` frames, beginning with a key frame that is done."""
    pipeline.reset()
    pipeline.policy = Never()
    for index in range(3):  # a key frame, and what the first frames allocate
        pipeline.submit(Frame(images[index], index, 0.0))
        pipeline.poll(block=True)
    pipeline.policy = policy
    run = Run(count)
    with PacedSource(MemorySource(images, count), rate) as source:
        for frame in source:
            pipeline.submit(Frame(frame.image, frame.index + 3, frame.stamp_s, live=True))
            result = pipeline.poll(block=True)
            assert result is not None
            assert result.age_s is not None
            run.captured_s.append(frame.stamp_s)
            run.ages_ms.append(result.age_s * 1e3)
            run.distances.append(result.key_distance)
            run.keys.add(result.key_index)
    run.captured_s = [stamp_s - run.captured_s[0] for stamp_s in run.captured_s]
    return run


def cpu_share(seconds: float) -> float:
    """Cores' time that this process uses while nothing is asked of it, over one core's."""
    before_s = time.process_time()
    time.sleep(seconds)
    return (time.process_time() - before_s) / seconds


if __name__ == "__main__":
    main()
