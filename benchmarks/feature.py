"""Feature networks made for the edge on this CPU: what strides and necks cost in INT8 and FP32.

At 352x480, random weights, calibrated on synthetic street frames. Kernel time is added over the
nodes of the graph as ONNX Runtime profiles them, the fastest of the repetitions of each: other
programs beside change it little. Where OpenVINO is installed it runs the same graphs in turns, as
wall time.
"""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from _common import interleaved_ms, openvino_job, parser, report, weight_bits

from dff_edge.bundle.levels import MapLevels
from dff_edge.calibration.ort.byte_maps import levels_over
from dff_edge.calibration.ort.int8 import quantize_graph
from dff_edge.export.graphs import FeatureGraph
from dff_edge.export.to_onnx import export_onnx
from dff_edge.runtime.engines.onnxruntime import session_options
from dff_edge.runtime.kernels.resize import FrameResizer
from dff_edge.synthetic import StreetScene
from dff_edge.trainer.models import FeatureConfig, ModelConfig, SegmentationConfig, build_model

FRAME_SIZE = (352, 480)
CALIBRATION_FRAMES = 3
NETWORKS = {
    "ResNet-18 of half width, dilated, stride 16": {
        "name": "resnet18",
        "width": 0.5,
        "channels": 128,
    },
    "EfficientNet-Lite0, dilated, stride 16": {"name": "efficientnet_lite0", "channels": 128},
    "EfficientNet-Lite0, pyramid, stride 16": {
        "name": "efficientnet_lite0",
        "channels": 128,
        "neck": "pyramid",
    },
    "EfficientNet-Lite0, pyramid, stride 8": {
        "name": "efficientnet_lite0",
        "channels": 64,
        "neck": "pyramid",
        "stride": 8,
    },
    "EfficientNet-Lite2, pyramid, stride 8": {
        "name": "efficientnet_lite2",
        "channels": 64,
        "neck": "pyramid",
        "stride": 8,
    },
}


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--repetitions", type=int, default=15)
    options = arguments.parse_args()
    frames = street_frames()
    times: dict[str, float] = {}
    jobs: dict[str, Callable[[], Any]] = {}
    for name, settings in NETWORKS.items():
        fp32 = exported(settings)
        for precision, graph in {"FP32": fp32, "INT8": quantized(fp32, frames)}.items():
            kernel_ms = kernel_time_ms(graph, frames[0], options.threads, options.repetitions)
            times[f"{name}, {precision}, kernels ms"] = round(kernel_ms, 2)
            peer = openvino_job(graph, frames[0], options.threads)
            if peer is not None:
                jobs[f"{name}, {precision}, OpenVINO ms"] = peer
    wall = interleaved_ms(jobs, repetitions=options.repetitions) if jobs else {}
    times |= {name: round(value, 2) for name, value in wall.items()}
    report({}, {"int8 weight bits": weight_bits()} | times, options.json)


def street_frames() -> list[dict[str, np.ndarray]]:
    """Inputs of the feature network."""
    resizer = FrameResizer(FRAME_SIZE)
    frames = []
    for seed in range(CALIBRATION_FRAMES):
        image, _ = StreetScene(seed, "train", FRAME_SIZE, 2).render(0)
        frame = np.empty((1, *FRAME_SIZE, 3), np.uint8)
        resizer.full(image, frame)
        frames.append({"frame": frame})
    return frames


def exported(settings: dict[str, Any]) -> bytes:
    """A feature network with random weights as a bundle holds it."""
    torch.manual_seed(0)
    task = SegmentationConfig(classes=("any",), colours=((0, 0, 0),))
    feature = FeatureConfig.model_validate(settings)
    model = build_model(ModelConfig(feature=feature, task=task, frame_size=FRAME_SIZE)).eval()
    frame = torch.zeros((1, *FRAME_SIZE, 3), dtype=torch.uint8)
    graph = export_onnx(
        FeatureGraph(model, FRAME_SIZE), "feature", {"frame": frame}, ["features"], 18
    )
    return bytes(graph.SerializeToString())


def quantized(graph: bytes, frames: list[dict[str, np.ndarray]]) -> bytes:
    """The same in INT8."""
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    highest = max(float(session.run(None, frame)[0].max()) for frame in frames)
    levels = MapLevels(levels_over(0, highest), levels_over(1, 1, hit_one=True))
    return quantize_graph(graph, frames, levels, weight_bits())


def kernel_time_ms(
    graph: bytes, inputs: dict[str, np.ndarray], threads: int, repetitions: int
) -> float:
    """Time of all nodes together, each at its fastest."""
    options = session_options(onnxruntime, threads)
    options.enable_profiling = True
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        for _ in range(repetitions):
            session.run(None, inputs)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    durations = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            durations[event["name"]].append(event["dur"])
    return sum(min(microseconds) for microseconds in durations.values()) / 1e3


if __name__ == "__main__":
    main()
