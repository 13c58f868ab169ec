"""Cost of R-FCN on a CPU after its learned maps, beside the flow network; random weights.

detection_finish_over_flow   native code behind the maps, time / FlowNet Inception FP32 time
detection_graph_over_flow    the same part of task.onnx (task.onnx - task_maps.onnx) / that time
detection_native_speedup     that part of task.onnx, time / native time
detection_box_error_px, detection_score_error   native code against task.onnx, largest difference

--size is that of the frame, 512x1024 in the paper's other experiments; --classes 30 are those of
ImageNet VID. 9 anchors, 6000 candidates, 300 proposals, 7x7 bins. The objects of random weights
are everywhere, more than in any scene. Everything uses --threads threads.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from _common import interleaved_ms, parser, report

from dff_edge.bundle.contract import STRIDE
from dff_edge.bundle.rfcn import RfcnSettings
from dff_edge.detection_matching import detections_of
from dff_edge.export.graphs import FlowGraph
from dff_edge.export.rfcn_graph import RfcnGraph
from dff_edge.export.to_onnx import export_onnx
from dff_edge.onnx_graphs.detection import MAPS, whole_task
from dff_edge.runtime.engines.onnxruntime import OrtEngine
from dff_edge.runtime.kernels.detect import Detector
from dff_edge.trainer.models import ModelConfig, RfcnHead, build_model

OPSET = 17
SETTINGS = RfcnSettings()
SPREADS = {"objectness": 1.0, "deltas": 0.2, "class_maps": 2.0, "box_maps": 0.2}  # of the maps


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--size", default="512x1024", help="HxW of the frame, multiples of 64")
    arguments.add_argument("--classes", type=int, default=30)
    arguments.add_argument("--channels", type=int, default=512)
    arguments.add_argument("--repetitions", type=int, default=15)
    options = arguments.parse_args()
    height, width = (int(side) for side in options.size.split("x"))
    map_size = (height // STRIDE, width // STRIDE)
    features = np.random.default_rng(0).standard_normal(
        (1, *map_size, options.channels), np.float32
    )
    task_maps = maps_graph(features, options.classes)
    flow = flow_graph((height, width), options.channels)
    engine_of = partial(OrtEngine, threads=options.threads)
    with (
        engine_of(task_maps, name="task_maps") as cut,
        engine_of(whole_task(task_maps, SETTINGS, STRIDE), name="task") as whole,
        engine_of(flow, name="flow") as network,
    ):
        maps = {name: spec.empty() for name, spec in cut.outputs.items()}
        objects = {name: spec.empty() for name, spec in whole.outputs.items()}
        moved = {name: spec.empty() for name, spec in network.outputs.items()}
        halves = {name: spec.empty() for name, spec in network.inputs.items()}
        for half in halves.values():
            half[:] = np.random.default_rng(1).integers(0, 256, half.shape, np.uint8)
        detector = Detector(SETTINGS, map_size, options.classes)

        def finish() -> object:
            return detector.finish(*(maps[name][0] for name in MAPS), threads=options.threads)

        jobs: dict[str, Callable[[], object]] = {
            "task_maps.onnx": lambda: cut.run({"features": features}, maps),
            "native code": finish,
            "task.onnx": lambda: whole.run({"features": features}, objects),
            "FlowNet Inception fp32": lambda: network.run(halves, moved),
        }
        times = interleaved_ms(jobs, repetitions=options.repetitions, warmup=2)
        cut.run({"features": features}, maps)
        found = detector.finish(*(maps[name][0] for name in MAPS))
        expected = detections_of(objects)
    # The same where no tie breaks otherwise, which the largest difference would show.
    count = min(len(found), len(expected))
    graph_ms = times["task.onnx"] - times["task_maps.onnx"]
    flow_ms = times["FlowNet Inception fp32"]
    report(
        {
            "detection_finish_over_flow": times["native code"] / flow_ms,
            "detection_graph_over_flow": graph_ms / flow_ms,
            "detection_native_speedup": graph_ms / times["native code"],
            "detection_box_error_px": float(
                np.abs(found.boxes[:count] - expected.boxes[:count]).max(initial=0)
            ),
            "detection_score_error": float(
                np.abs(found.scores[:count] - expected.scores[:count]).max(initial=0)
            ),
        },
        {
            "size": options.size,
            "classes": options.classes,
            "threads": options.threads,
            "detections": [len(found), len(expected)],
            "ms": times,
        },
        options.json,
    )


def maps_graph(features: np.ndarray, classes: int) -> bytes:
    """A task network whose maps spread as they do after training."""
    torch.manual_seed(0)
    head = RfcnHead(features.shape[3], classes, SETTINGS)
    with torch.no_grad():
        graph = RfcnGraph(head)
        for name, maps in zip(MAPS, graph(torch.from_numpy(features)), strict=True):
            layer = getattr(head, name)
            layer.weight *= SPREADS[name] / maps.std()
    model = export_onnx(
        RfcnGraph(head), "task_maps", {"features": torch.from_numpy(features)}, MAPS, OPSET
    )
    return bytes(model.SerializeToString())


def flow_graph(frame_size: tuple[int, int], channels: int) -> bytes:
    config = ModelConfig.model_validate(
        {
            "feature": {"name": "resnet18", "width": 0.25, "channels": channels},
            "flow": {"name": "inception"},
            "task": {"classes": ["one"], "colours": [[0, 0, 0]]},
            "frame_size": frame_size,
        }
    )
    half = torch.zeros((1, frame_size[0] // 2, frame_size[1] // 2, 3), dtype=torch.uint8)
    model = export_onnx(
        FlowGraph(build_model(config).eval(), frame_size, channels),
        "flow",
        {"key_half": half, "frame_half": half.clone()},
        ["flow", "scale"],
        OPSET,
    )
    return bytes(model.SerializeToString())


if __name__ == "__main__":
    main()
