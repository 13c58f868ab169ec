"""The pipeline on an NVIDIA GPU: overlap on and off, both drivers, graphs, the timeline.

ResNet-101 + FlowNet Inception, 512x1024, 20 classes, C = 1024, random weights: speed does not
depend on them. The subnets are torch modules on the scheduler's streams (what every GPU machine
with torch has), in FP32 and under FP16 autocast; where ONNX Runtime's CUDA provider or TensorRT is
installed, a bundle runs through them too. What is missing is named under "left out".

overlap_gain_*         frames per second with a stream for each network over all in one stream
overlapped_share_*     of the busy time of the networks' streams, two or more at work
pipeline_gain_*        pipeline at l = 10 over the feature and task network on every frame
graphs_gain_*          with CUDA graphs over without
sequential_equal       1 when overlapped results are those in order, to the bit
lag_equal              1 when results with key frames in the background, used 3 frames later, are
                       those of one frame after another, to the bit
background_p99_over_alone_*  99th percentile of a frame's latency while key frames are computed in
                       the background, over the median without; background_overhead_*: the median's
"""

from __future__ import annotations

import importlib.util
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from _common import FRAME_SIZE, paper_size_config, parser, report, street_images

from dff_edge.bundle.contract import graph_contract
from dff_edge.errors import DffEdgeError, EngineError
from dff_edge.frames import Frame
from dff_edge.report.timeline import NETWORK_STREAMS, overlapped_share, write_timeline
from dff_edge.runtime.engines.backends import backend_of
from dff_edge.runtime.engines.subnets import Subnets
from dff_edge.runtime.keys import BACKGROUND, KeyMode
from dff_edge.runtime.scheduler import Scheduler
from dff_edge.runtime.tasks.segmentation import LabelDecoder
from dff_edge.runtime.trace import Trace

DRIVERS = ("cuda-python", "pycuda")
DEPTH = 3
CLIPS = "synthetic://street?split=val&clips=2&frames=12&height=512&width=1024"


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--repetitions", type=int, default=5)
    arguments.add_argument("--interval", type=int, default=10)
    arguments.add_argument("--timeline", type=Path, help="a folder for pictures and traces")
    options = arguments.parse_args()
    left_out: list[str] = []
    figures: dict[str, float] = {}
    background: dict[str, Any] = {"engines": []}
    frames = [
        Frame(image, index, index / 30)
        for index, image in enumerate(street_images(FRAME_SIZE, 3 * options.interval))
    ]
    with tempfile.TemporaryDirectory(prefix="dff-edge-") as folder:
        for name, open_case in cases(left_out, Path(folder)):
            try:
                with open_case() as (device, subnets):
                    measured = measure(device, subnets, frames, options, name)
            except DffEdgeError as error:
                left_out.append(f"{name}: {error}")
                continue
            background["engines"].append(f"{name} on {device.name}")
            for figure, value in measured.items():
                figures[f"{figure}_{name}"] = value
    background["left out"] = left_out or "nothing"
    add_graph_gains(figures)
    report(figures, background, options.json)


def cases(left_out: list[str], folder: Path) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield the cases that can be measured here; those that cannot go to ``left_out``."""
    if importlib.util.find_spec("torch") is None:
        left_out.append("torch engines: torch is not installed")
    else:
        import torch

        if not torch.cuda.is_available():
            left_out.append("torch engines: this torch sees no GPU")
        else:
            for half in (False, True):
                kind = "fp16" if half else "fp32"
                for driver in DRIVERS:
                    yield f"torch_{kind}_{driver}", torch_case(driver, half=half, graphs=False)
                yield (
                    f"torch_{kind}_cuda-python_graphs",
                    torch_case(DRIVERS[0], half=half, graphs=True),
                )
    bundle: list[Any] = []  # made when it is first wanted
    for engine, package in (("cuda", "onnxruntime"), ("tensorrt", "tensorrt")):
        if importlib.util.find_spec(package) is None:
            left_out.append(f"{engine}: {package} is not installed")
            continue
        for precision in backend_of(engine).precisions:
            yield f"{engine}_{precision}", bundle_case(engine, precision, folder, bundle)


def torch_case(driver: str, *, half: bool, graphs: bool) -> Callable[[], Any]:
    """The exported subnets as torch modules."""

    @contextmanager
    def opened() -> Iterator[tuple[Any, Subnets]]:
        from _torch_engine import TorchEngine

        from dff_edge.export.graphs import FeatureGraph, FlowGraph, TaskGraph
        from dff_edge.runtime.devices.cuda.device import open_device
        from dff_edge.trainer.models import build_model

        config = paper_size_config()
        model = build_model(config).eval()
        modules = {
            "feature": FeatureGraph(model, FRAME_SIZE),
            "flow": FlowGraph(model, FRAME_SIZE, 1024),
            "task": TaskGraph(model),
        }
        with ExitStack() as stack:
            device = open_device(driver)
            stack.callback(device.close)
            engines = {}
            for subnet, module in modules.items():
                contract = graph_contract(
                    subnet,
                    frame_size=FRAME_SIZE,
                    channels=1024,
                    classes=20,
                    maps=np.dtype(np.float16 if half else np.float32),
                )
                engines[subnet] = TorchEngine(
                    module,
                    list(contract.inputs.values()),
                    list(contract.outputs.values()),
                    name=subnet,
                    half=half,
                    graphs=graphs,
                )
                stack.callback(engines[subnet].close)
            yield device, Subnets(engines["feature"], engines["flow"], engines["task"])

    return opened


def bundle_case(engine: str, precision: str, folder: Path, made: list[Any]) -> Callable[[], Any]:
    """A bundle through ONNX Runtime or TensorRT, deployed first."""

    @contextmanager
    def opened() -> Iterator[tuple[Any, Subnets]]:
        from dff_edge.deploy import deploy_bundle, open_target
        from dff_edge.runtime.engines.cache import EngineCache
        from dff_edge.runtime.engines.open import open_subnets

        cache = EngineCache()
        with open_target(engine, cache, progress=print) as target:
            bundle = made[0] if made else make_bundle(folder / "bundle")
            made[:] = [bundle]
            for _ in deploy_bundle(bundle, target, [precision], cache, source=CLIPS):
                pass
        opened = open_subnets(bundle, precision, engine)
        try:
            yield opened.device, opened.subnets
        finally:
            opened.close()

    return opened


def make_bundle(path: Path) -> Any:
    """An untrained model in every precision and both flavours."""
    from dff_edge.calibration.calibrate import calibrate_bundle
    from dff_edge.calibration.sampling.clips import open_calibration_clips
    from dff_edge.export.export import export_bundle
    from dff_edge.trainer.checkpoint import Checkpoint
    from dff_edge.trainer.models import build_model

    config = paper_size_config()
    checkpoint = Checkpoint("untrained", config, build_model(config).eval(), {}, "0" * 64)
    export_bundle(checkpoint, path)
    return calibrate_bundle(
        path, open_calibration_clips(CLIPS), source=CLIPS, max_keys=4, pairs_per_key=2
    )


def measure(
    device: Any, subnets: Subnets, frames: list[Frame], options: Any, name: str
) -> dict[str, float]:
    """Overlap on and off and per-frame, taking turns; then the timeline and the equality."""
    with ExitStack() as stack:
        schedulers = {}
        for way, overlap in (("overlap", True), ("in order", False)):
            schedulers[way] = Scheduler(
                device, subnets, LabelDecoder(), depth=DEPTH, overlap=overlap
            )
            stack.callback(schedulers[way].close)
        jobs = {way: (scheduler, options.interval) for way, scheduler in schedulers.items()}
        jobs["per frame"] = (schedulers["in order"], 1)
        for scheduler, interval in jobs.values():
            for _ in range(2):
                run(scheduler, frames, interval)
        seconds: dict[str, list[float]] = {job: [] for job in jobs}
        for _ in range(options.repetitions):
            for job, (scheduler, interval) in jobs.items():
                start = time.perf_counter()
                run(scheduler, frames, interval)
                seconds[job].append(time.perf_counter() - start)
        fps = {job: len(frames) / statistics.median(some) for job, some in seconds.items()}
        results = {way: run(schedulers[way], frames, options.interval) for way in schedulers}
    try:
        behind = measure_background(device, subnets, frames)
    except EngineError:  # pycuda has no priorities
        behind = {}
    trace = Trace()
    traced = Scheduler(device, subnets, LabelDecoder(), depth=DEPTH, trace=trace)
    try:
        for _ in range(2):
            run(traced, frames, options.interval)
    finally:
        traced.close()
    if options.timeline is not None:
        options.timeline.mkdir(parents=True, exist_ok=True)
        for suffix in (".png", ".json"):
            write_timeline(trace, options.timeline / f"{name}{suffix}")
    networks = [span for span in trace.spans if span.stream in NETWORK_STREAMS]
    pairs = zip(results["overlap"], results["in order"], strict=True)
    return {
        "fps_overlap": fps["overlap"],
        "fps_in_order": fps["in order"],
        "fps_per_frame": fps["per frame"],
        "overlap_gain": fps["overlap"] / fps["in order"],
        "pipeline_gain": max(fps["overlap"], fps["in order"]) / fps["per frame"],
        "overlapped_share": overlapped_share(networks),
        "sequential_equal": float(all(np.array_equal(a, b) for a, b in pairs)),
        **behind,
    }


def measure_background(
    device: Any, subnets: Subnets, frames: list[Frame], rounds: int = 5
) -> dict[str, float]:
    """Latency of frames one by one, without a feature network and beside one that always runs."""
    labels = []
    for depth, overlap in ((1, False), (DEPTH, True)):
        scheduler = Scheduler(
            device, subnets, LabelDecoder(), depth=depth, overlap=overlap, keys=KeyMode(3)
        )
        try:
            labels.append(run(scheduler, frames, interval=4))
        finally:
            scheduler.close()
    latencies_ms: dict[bool, list[float]] = {False: [], True: []}
    scheduler = Scheduler(device, subnets, LabelDecoder(), depth=1, keys=BACKGROUND)
    try:
        for number in range(1 + rounds):  # the first allocates
            for is_beside, times in latencies_ms.items():
                scheduler.drop_all()
                scheduler.forget_key()
                for frame in frames:
                    scheduler.take_up(frame.index)
                    is_idle = is_beside and not scheduler.is_key_pending
                    is_first = scheduler.key_index is None
                    scheduler.submit(frame, is_key=is_first or is_idle)
                    latency_ms = scheduler.collect().latency_s * 1e3
                    if number and not is_first:
                        times.append(latency_ms)
    finally:
        scheduler.close()
    alone_ms = statistics.median(latencies_ms[False])
    return {
        "lag_equal": float(all(np.array_equal(a, b) for a, b in zip(*labels, strict=True))),
        "background_p99_over_alone": float(np.percentile(latencies_ms[True], 99)) / alone_ms,
        "background_overhead": statistics.median(latencies_ms[True]) / alone_ms,
    }


def run(scheduler: Scheduler, frames: list[Frame], interval: int) -> list[np.ndarray]:
    """Label maps of all frames."""
    labels = []
    for frame in frames:
        if scheduler.is_full:
            labels.append(scheduler.collect().labels)
        scheduler.take_up(frame.index)
        is_key = frame.index % interval == 0 and not scheduler.is_key_pending
        scheduler.submit(frame, is_key=is_key)
    while scheduler.in_flight:
        labels.append(scheduler.collect().labels)
    return labels


def add_graph_gains(figures: dict[str, float]) -> None:
    """Add the gains of graphs, where both ways were measured."""
    for kind in ("fp32", "fp16"):
        plain = figures.get(f"fps_overlap_torch_{kind}_{DRIVERS[0]}")
        graphs = figures.get(f"fps_overlap_torch_{kind}_{DRIVERS[0]}_graphs")
        if plain and graphs:
            figures[f"graphs_gain_torch_{kind}"] = graphs / plain


if __name__ == "__main__":
    main()
