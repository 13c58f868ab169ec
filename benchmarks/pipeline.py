"""The whole pipeline at the paper's size against per-frame inference, and where its time goes.

ResNet-101 + FlowNet Inception, 512x1024, 20 classes, C = 1024, random weights: speed does not
depend on them. INT8 pipeline from uint8 frames to label maps, against ONNX Runtime running the
FP32 feature and task networks on every frame, both with --threads threads, taking turns.

pipeline_speedup       per-frame FP32 time / INT8 pipeline time for one frame, at --interval
openvino_pipeline_speedup  the same with OpenVINO as the pipeline's engine, where it is installed
flow_share             time of one flow network; warp_task_share: of one warp and task network;
                       resize_decode_share: of both resizes and the decoding of one frame, from
                       frames of the network's size; over one per-frame FP32 run (feature and task)
runtime_cost_share     part of the wall time in which no engine and no kernel runs, by wrappers
                       around all of them, frame by frame (depth 1), median of several runs
predicted_r, predicted_s   Eq. 5 and 7 of the paper, from multiply-adds
measured_r             Eq. 5 from INT8 times: flow, warp and task over feature and task
measured_s             INT8 feature and task time / INT8 pipeline time, frame by frame
"""

from __future__ import annotations

import importlib.util
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import cv2
import numpy as np
from _common import (
    FRAME_SIZE,
    bits_of,
    interleaved_ms,
    paper_size_config,
    parser,
    report,
    street_images,
    weight_bits,
)

from dff_edge import _native
from dff_edge.bundle.reader import Bundle
from dff_edge.calibration.calibrate import calibrate_bundle
from dff_edge.calibration.sampling.clips import open_calibration_clips
from dff_edge.export.export import export_bundle
from dff_edge.frames import Frame
from dff_edge.runtime.devices import cpu
from dff_edge.runtime.engines.onnxruntime import OrtEngine
from dff_edge.runtime.kernels.decode import decode_labels
from dff_edge.runtime.kernels.resize import FrameResizer
from dff_edge.runtime.kernels.warp import warp_features
from dff_edge.runtime.pipeline import Pipeline
from dff_edge.trainer.checkpoint import Checkpoint
from dff_edge.trainer.models import build_model
from dff_edge.trainer.models.complexity import cost_ratio, speedup

CALIBRATION = "synthetic://street?split=val&clips=2&frames=12&height=512&width=1024"


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--repetitions", type=int, default=7)
    arguments.add_argument("--interval", type=int, default=10)
    arguments.add_argument("--depth", type=int, default=3, help="frames in flight")
    arguments.add_argument("--bundle", type=Path, help="keep the bundle here and use it again")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="dff-edge-") as folder:
        bundle = make_bundle(options.bundle or Path(folder) / "bundle")
        images = street_images(FRAME_SIZE, 2 * options.interval)
        with ExitStack() as stack:
            figures, background = measure(bundle, images, options, stack)
    report(figures, {"int8 weight bits": bits_of(bundle)} | background, options.json)


def measure(
    bundle: Bundle, images: list[np.ndarray], options: Any, stack: ExitStack
) -> tuple[dict[str, float], dict[str, Any]]:
    """Time the whole pipeline and each of its parts; figures, and what they rest on."""
    threads, interval = options.threads, options.interval

    def pipeline(depth: int, engine: str = "onnxruntime") -> Pipeline:
        opened = Pipeline.open(
            bundle,
            precision="int8",
            policy=f"fixed:{interval}",
            depth=depth,
            threads=threads,
            engine=engine,
        )
        return stack.enter_context(opened)

    def job(precision: str, subnet: str) -> Callable[[], None]:
        graph = bundle.graph_bytes(precision, subnet)
        engine = OrtEngine(graph, name=f"{precision} {subnet}", threads=threads)
        stack.callback(engine.close)
        inputs = {n: np.zeros(spec.shape, spec.dtype) for n, spec in engine.inputs.items()}
        outputs = {n: spec.empty() for n, spec in engine.outputs.items()}
        return lambda: engine.run(inputs, outputs)

    frames = [Frame(image, index, index / 30) for index, image in enumerate(images)]
    overlapped, in_turn = pipeline(options.depth), pipeline(1)
    heavy, light = job("fp32", "feature"), job("fp32", "task")
    jobs = {
        "per-frame FP32": lambda: (heavy(), light()),
        f"INT8 pipeline, {options.depth} in flight": lambda: list(overlapped.run(frames)),
        "INT8 pipeline, one by one": lambda: list(in_turn.run(frames)),
        "feature int8": job("int8", "feature"),
        "flow int8": job("int8", "flow"),
        "task int8": job("int8", "task"),
        **kernel_jobs(bundle, images, threads),
    }
    if importlib.util.find_spec("openvino") is not None:
        peer = pipeline(options.depth, "openvino")
        jobs["INT8 pipeline, OpenVINO"] = lambda: list(peer.run(frames))
    times = interleaved_ms(jobs, repetitions=options.repetitions)
    for name in jobs:
        if name.startswith("INT8 pipeline"):
            times[name] /= len(frames)
    baseline, flow = times["per-frame FP32"], times["flow int8"]
    warp_task, per_frame = times["warp"] + times["task int8"], times["feature int8"]
    per_frame += times["task int8"]
    runs = [time_parts(in_turn, frames) for _ in range(options.repetitions)]
    parts = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
    predicted_r = cost_ratio(build_model(paper_size_config()).eval(), FRAME_SIZE)
    figures = {
        "pipeline_speedup": baseline / times[f"INT8 pipeline, {options.depth} in flight"],
        "flow_share": flow / baseline,
        "warp_task_share": warp_task / baseline,
        "resize_decode_share": (times["resize"] + times["decode"]) / baseline,
        "runtime_cost_share": parts["runtime"],
        "predicted_r": predicted_r,
        "predicted_s": speedup(interval, predicted_r),
        "measured_r": (flow + warp_task) / per_frame,
        "measured_s": per_frame / times["INT8 pipeline, one by one"],
    }
    if "INT8 pipeline, OpenVINO" in times:
        figures["openvino_pipeline_speedup"] = baseline / times["INT8 pipeline, OpenVINO"]
    background = {f"{name}, ms": round(value, 3) for name, value in times.items()}
    background |= {f"part of the wall, {name}": f"{share:.1%}" for name, share in parts.items()}
    return figures, background


def kernel_jobs(
    bundle: Bundle, images: list[np.ndarray], threads: int
) -> dict[str, Callable[[], Any]]:
    """The native kernels as the pipeline calls them, on values like those it has."""
    height, width = (side // 16 for side in FRAME_SIZE)
    rng = np.random.default_rng(0)
    levels = bundle.manifest.map_levels("int8")
    shape = (1, height, width, bundle.manifest.channels)
    features, scale = (rng.integers(0, 256, shape, dtype=np.uint8) for _ in range(2))
    flow = rng.uniform(-2, 2, (1, height, width, 2)).astype(np.float32)
    out = np.empty_like(features)
    # Smooth, as scores of a street are: pure noise has a border everywhere.
    coarse = rng.normal(size=(height // 8, width // 8, len(bundle.manifest.classes))).astype(
        np.float32
    )
    scores = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    resizer = FrameResizer(FRAME_SIZE)
    full = np.empty((1, *FRAME_SIZE, 3), np.uint8)
    half = np.empty((1, FRAME_SIZE[0] // 2, FRAME_SIZE[1] // 2, 3), np.uint8)
    (large,) = street_images((1080, 1920), 1)
    return {
        "warp": lambda: warp_features(
            features, flow, scale, levels=levels, out=out, threads=threads
        ),
        "decode": lambda: decode_labels(
            scores, FRAME_SIZE, threads=cpu.kernel_threads(FRAME_SIZE[0] * FRAME_SIZE[1], threads)
        ),
        "resize": lambda: (resizer.full(images[0], full), resizer.half(images[0], half)),
        "resize from 1080p": lambda: (resizer.full(large, full), resizer.half(large, half)),
    }


def time_parts(pipeline: Pipeline, frames: list[Frame]) -> dict[str, float]:
    """Return shares of a run's wall time; "runtime" is when no engine or kernel runs."""
    spans: dict[str, list[tuple[float, float]]] = defaultdict(list)

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                spans[name].append((start, time.perf_counter()))

        return wrapper

    subnets = pipeline._opened.subnets
    with ExitStack() as stack:
        for name in ("feature", "flow", "task"):  # the sessions: an engine's checks are runtime
            session = getattr(subnets, name)._session
            stand_in = mock.Mock(io_binding=session.io_binding)
            stand_in.run_with_iobinding = timed(name, session.run_with_iobinding)
            stack.enter_context(mock.patch.object(getattr(subnets, name), "_session", stand_in))
        for owner, attribute, name in (
            (_native, "warp_bytes", "warp"),
            (_native, "decode", "decode"),
            (cv2, "resize", "resize"),
            (np, "copyto", "resize"),
        ):
            wrapper = timed(name, getattr(owner, attribute))
            stack.enter_context(mock.patch.object(owner, attribute, wrapper))
        start = time.perf_counter()
        for _ in pipeline.run(frames):
            pass
        wall = time.perf_counter() - start
    covered, last = 0.0, 0.0
    for begin, end in sorted(span for some in spans.values() for span in some):
        covered += max(0.0, end - max(begin, last))
        last = max(last, end)
    parts = {name: sum(end - begin for begin, end in some) / wall for name, some in spans.items()}
    # More than 1 where parts overlap, which they must not at depth 1.
    return {**parts, "runtime": 1 - covered / wall, "all": sum(parts.values()) + 1 - covered / wall}


def make_bundle(path: Path) -> Bundle:
    """Export an untrained model and calibrate it, or open what is there."""
    if path.is_dir() and any(path.iterdir()):
        return Bundle.open(path)
    config = paper_size_config()
    checkpoint = Checkpoint("untrained", config, build_model(config).eval(), {}, "0" * 64)
    export_bundle(checkpoint, path)
    return calibrate_bundle(
        path,
        open_calibration_clips(CALIBRATION),
        source=CALIBRATION,
        max_keys=8,
        pairs_per_key=2,
        precisions=("int8",),
        weight_bits=weight_bits(),
    )


if __name__ == "__main__":
    main()
