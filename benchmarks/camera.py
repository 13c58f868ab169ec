"""Age of results, from capture on, and dropped frames of live sources at 10, 15 and 30 Hz.

Two pipelines: one that is faster than the camera (the shipped model, or --bundle) and one that is
slower (an untrained ResNet-50 at 256 x 512 in FP32, every frame a key frame). Two cameras, 480 x
640: a scene that is paced in this process, and an MJPEG server in another one.

age_p50_ms, age_p99_ms      from a frame's stamp to its result, 30 Hz MJPEG camera, faster pipeline
drawn_p50_ms, drawn_p99_ms  the same from the time that the camera drew into the picture
dropped_percent             of the frames of that camera
slow_age_p50_ms, slow_age_p99_ms, slow_dropped_percent      the same camera, slower pipeline

And a camera that is faster than decoding, 4K MJPEG at 60 Hz, without a pipeline; --large measures
it alone:

large_decode_alone_ms       one picture, checked and decoded, before the camera is there (median)
large_decode_ms             the same while it sends
large_drawn_p50_ms, large_drawn_p99_ms      from the time that the camera drew to the frame
large_drawn_p99_decodes     the last in decoding times
large_told_low_ms, large_told_high_ms       age told less true age: 1st and 99th percentile
held_up_told_low_ms, held_up_told_high_ms   the same, the extremes, of two seconds after this
                            process stood still for one (SIGSTOP)
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

import numpy as np
from _common import export_shipped, parser, report
from _mjpeg_server import ClockedPictures, MjpegProcess, read_time

from dff_edge.bundle.reader import Bundle
from dff_edge.frames import Image
from dff_edge.runtime.pipeline import Pipeline
from dff_edge.runtime.sources import Source, open_source
from dff_edge.runtime.sources.network import mjpeg

RATES_HZ = (10, 15, 30)
SIZE = (480, 640)
LARGE_SIZE, LARGE_HZ = (2160, 3840), 60
AFTER_HOLD_UP_S = 2.0
CLOCK_S = 2**32 / 1e3  # after which the drawn clock begins anew
SLOW_SIZE = (256, 512)
WARMUP = 3  # results


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--bundle", type=Path, help="default: the shipped model, exported")
    arguments.add_argument("--precision", default="fp32", choices=["fp32", "fp16", "int8"])
    arguments.add_argument("--interval", type=int, default=10)
    arguments.add_argument("--slow-bundle", type=Path, help="default: made, which takes a minute")
    arguments.add_argument("--seconds", type=float, default=8.0, help="a case")
    arguments.add_argument("--large", action="store_true", help="measure the 4K camera only")
    options = arguments.parse_args()

    large = measure_large(options.seconds)
    if options.large:
        report(large, {"seconds": options.seconds}, options.json)
        return
    cases = Cases()
    with tempfile.TemporaryDirectory() as folder:
        fast = options.bundle or export_shipped(Path(folder) / "fast")
        slow = options.slow_bundle or export_slow(Path(folder) / "slow")
        for pipeline, bundle, precision, interval in (
            ("faster", fast, options.precision, options.interval),
            ("slower", slow, "fp32", 1),
        ):
            with Pipeline.open(
                bundle,
                precision=precision,
                policy=f"fixed:{interval}",
                depth=1,
                threads=options.threads,
            ) as opened:
                for camera in ("paced", "mjpeg"):
                    for rate in RATES_HZ:
                        numbers = measure(opened, camera, rate, options.seconds)
                        cases.append(
                            {"pipeline": pipeline, "camera": camera, "hz": rate, **numbers}
                        )
    named = {(case["pipeline"], case["camera"], case["hz"]): case for case in cases}
    quick, late = named["faster", "mjpeg", 30], named["slower", "mjpeg", 30]
    figures = {
        **{name: quick[name] for name in ("age_p50_ms", "age_p99_ms")},
        **{name: quick[name] for name in ("drawn_p50_ms", "drawn_p99_ms", "dropped_percent")},
        **{f"slow_{n}": late[n] for n in ("age_p50_ms", "age_p99_ms", "dropped_percent")},
        **large,
    }
    background = {
        "bundle": options.bundle or "street",
        "precision": options.precision,
        "interval": options.interval,
        "threads": options.threads,
        "cases": cases,
    }
    report(figures, background, options.json)


def measure(pipeline: Pipeline, camera: str, rate: int, seconds: float) -> dict[str, Any]:
    """Run the pipeline on a camera for some seconds."""
    ages, drawn, latencies = [], [], []
    with ExitStack() as stack:
        if camera == "mjpeg":
            server = stack.enter_context(MjpegProcess(rate=rate, size=SIZE))
            uri = server.address
        else:
            count = round((seconds + 60) * rate)
            uri = f"synthetic://street?height={SIZE[0]}&width={SIZE[1]}&frames={count}&rate={rate}"
        source = stack.enter_context(open_source(uri))
        start_s = None
        for number, result in enumerate(pipeline.run(source)):
            ready_s = result.frame.stamp_s + result.age_s
            if number < WARMUP:
                start_s, first = ready_s, result.frame.index + 1
                continue
            ages.append(1e3 * result.age_s)
            latencies.append(1e3 * result.latency_s)
            if camera == "mjpeg":
                drawn.append(1e3 * (ready_s % CLOCK_S - read_time(result.frame.image)))
            if time.monotonic() - start_s >= seconds and len(ages) >= 10:
                break
        captured = result.frame.index + 1 - first
    return {
        "results_per_s": round(len(ages) / (ready_s - start_s), 1),
        "dropped_percent": round(100 * (1 - len(ages) / captured), 1),
        "latency_p50_ms": percentile(latencies, 50),
        "age_p50_ms": percentile(ages, 50),
        "age_p99_ms": percentile(ages, 99),
        "drawn_p50_ms": percentile(drawn, 50),
        "drawn_p99_ms": percentile(drawn, 99),
    }


def measure_large(seconds: float) -> dict[str, Any]:
    """Take frames of a camera that is faster than decoding as soon as they are there."""
    picture = ClockedPictures(LARGE_SIZE, count=1).encode(0, time.monotonic())
    decoder = TimedDecoder()
    for _ in range(25):
        decoder.decode(picture)
    alone_ms = percentile(TimedDecoder.times_ms, 50)
    with (
        mock.patch.object(mjpeg, "JpegDecoder", TimedDecoder),
        MjpegProcess(rate=LARGE_HZ, size=LARGE_SIZE) as server,
        open_source(server.address) as source,
    ):
        take_ages(source, 1.0)
        TimedDecoder.times_ms.clear()
        true_ms, told_ms = take_ages(source, seconds)
        decode_ms = percentile(TimedDecoder.times_ms, 50)
        stand_still(1.0)
        held_up = np.subtract(*reversed(take_ages(source, AFTER_HOLD_UP_S)))
    drawn_p99_ms = percentile(true_ms, 99)
    differences = list(np.subtract(told_ms, true_ms))
    return {
        "large_decode_alone_ms": alone_ms,
        "large_decode_ms": decode_ms,
        "large_drawn_p50_ms": percentile(true_ms, 50),
        "large_drawn_p99_ms": drawn_p99_ms,
        "large_drawn_p99_decodes": round(drawn_p99_ms / decode_ms, 2),
        "large_results_per_s": round(len(true_ms) / seconds, 1),
        "large_told_low_ms": percentile(differences, 1),
        "large_told_high_ms": percentile(differences, 99),
        "held_up_told_low_ms": percentile(list(held_up), 0),
        "held_up_told_high_ms": percentile(list(held_up), 100),
    }


class TimedDecoder(mjpeg.JpegDecoder):
    """Keeps the times that its pictures take."""

    times_ms: ClassVar[list[float]] = []

    def decode(self, data: bytes | bytearray) -> Image:
        start_s = time.monotonic()
        image = super().decode(data)
        self.times_ms.append(1e3 * (time.monotonic() - start_s))
        return image


def take_ages(source: Source, seconds: float) -> tuple[list[float], list[float]]:
    """Ages of frames as they are handed out, in ms: by the drawn clock, and told."""
    end_s = time.monotonic() + seconds
    true_ms, told_ms = [], []
    while time.monotonic() < end_s:
        frame = next(source)
        now_s = time.monotonic()
        true_ms.append(1e3 * (now_s % CLOCK_S - read_time(frame.image)))
        told_ms.append(1e3 * (now_s - frame.stamp_s))
    return true_ms, told_ms


def stand_still(seconds: float) -> None:
    """Have this process stopped for a while, by another one."""
    script = f"kill -STOP {os.getpid()}; sleep {seconds}; kill -CONT {os.getpid()}"
    subprocess.run(["sh", "-c", script], check=True)


def percentile(values: list[float], percent: int) -> float | None:
    return round(float(np.percentile(values, percent)), 1) if values else None


class Cases(list[dict[str, Any]]):
    """Measurements; printed as a table in Markdown."""

    def __str__(self) -> str:
        rows = [list(self[0]), ["---"] * len(self[0])]
        rows += [["-" if v is None else str(v) for v in case.values()] for case in self]
        return "\n" + "\n".join(f"| {' | '.join(row)} |" for row in rows)


def export_slow(folder: Path) -> Bundle:
    """An untrained ResNet-50, as an FP32 bundle."""
    from dff_edge.export import export_bundle
    from dff_edge.synthetic import CLASSES, COLOURS
    from dff_edge.trainer.checkpoint import Checkpoint
    from dff_edge.trainer.models import (
        FeatureConfig,
        FlowConfig,
        ModelConfig,
        SegmentationConfig,
        build_model,
    )

    config = ModelConfig(
        feature=FeatureConfig(name="resnet50"),
        flow=FlowConfig(name="inception"),
        task=SegmentationConfig(classes=CLASSES, colours=COLOURS),
        frame_size=SLOW_SIZE,
    )
    checkpoint = Checkpoint("untrained", config, build_model(config).eval(), {}, "0" * 64)
    return export_bundle(checkpoint, folder)


if __name__ == "__main__":
    main()
