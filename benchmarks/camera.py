"""Age of results, from capture on, and dropped frames of live sources at 10, 15 and 30 Hz.

Two pipelines: one that is faster than the camera (the shipped model, or --bundle) and one that is
slower (an untrained ResNet-50 at 256 x 512 in FP32, every frame a key frame). Two cameras, 480 x
640: a scene that is paced in this process, and an MJPEG server in another one.

age_p50_ms, age_p99_ms      from a frame's stamp to its result, 30 Hz MJPEG camera, faster pipeline
drawn_p50_ms, drawn_p99_ms  the same from the time that the camera drew into the picture
dropped_percent             of the frames of that camera
slow_age_p50_ms, slow_age_p99_ms, slow_dropped_percent      the same camera, slower pipeline
"""

from __future__ import annotations

import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from _common import export_shipped, parser, report
from _mjpeg_server import MjpegProcess, read_time

from dff_edge.runtime.bundle import Bundle
from dff_edge.runtime.pipeline import Pipeline
from dff_edge.runtime.sources import open_source

RATES_HZ = (10, 15, 30)
SIZE = (480, 640)
SLOW_SIZE = (256, 512)
WARMUP = 3  # results


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--bundle", type=Path, help="default: the shipped model, exported")
    arguments.add_argument("--precision", default="fp32", choices=["fp32", "fp16", "int8"])
    arguments.add_argument("--interval", type=int, default=10)
    arguments.add_argument("--slow-bundle", type=Path, help="default: made, which takes a minute")
    arguments.add_argument("--seconds", type=float, default=8.0, help="a case")
    options = arguments.parse_args()

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
                drawn.append(1e3 * (ready_s % (2**32 / 1e3) - read_time(result.frame.image)))
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


def percentile(values: list[float], percent: int) -> float | None:
    return round(float(np.percentile(values, percent)), 1) if values else None


class Cases(list[dict[str, Any]]):
    """What was measured; printed as a table in Markdown."""

    def __str__(self) -> str:
        rows = [list(self[0]), ["---"] * len(self[0])]
        rows += [["-" if v is None else str(v) for v in case.values()] for case in self]
        return "\n" + "\n".join(f"| {' | '.join(row)} |" for row in rows)


def export_slow(folder: Path) -> Bundle:
    """An untrained ResNet-50, as an FP32 bundle."""
    from dff_edge.export import export_bundle
    from dff_edge.runtime.synthetic import CLASSES, COLOURS
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
