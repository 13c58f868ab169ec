"""INT8 against FP32 networks on this CPU, with random weights: speed does not depend on them.

feature_int8_speedup   ResNet-50 feature network, 512x1024, FP32 time / INT8 time
flow_speedup           FP32 FlowNet-Simple time / INT8 FlowNet Inception time, same frames
seven_bits_feature     INT8 time of that feature network / its time with weights of 7 bits
seven_bits_flow        the same of FlowNet Inception

Both at the paper's size, C = 1024, in ONNX Runtime, calibrated on synthetic street frames. Where
OpenVINO is installed it runs the same graphs in the same turns:

openvino_feature_int8, openvino_flow_int8   ONNX Runtime time / OpenVINO time of the INT8 graph
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from _common import interleaved_ms, openvino_job, parser, report

from dff_edge.bundle.levels import MapLevels
from dff_edge.calibration.ort.byte_maps import levels_over
from dff_edge.calibration.ort.int8 import quantize_graph
from dff_edge.export.export import export_graphs
from dff_edge.runtime.engines.onnxruntime import OrtEngine
from dff_edge.runtime.kernels.resize import FrameResizer
from dff_edge.synthetic import CLASSES, COLOURS, StreetScene
from dff_edge.trainer.checkpoint import Checkpoint
from dff_edge.trainer.models import (
    FeatureConfig,
    FlowConfig,
    ModelConfig,
    SegmentationConfig,
    build_model,
)

FRAME_SIZE = (512, 1024)
CALIBRATION_FRAMES = 4


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--repetitions", type=int, default=9)
    options = arguments.parse_args()

    samples = calibration_samples()
    baseline = graphs("simple")
    small = graphs("inception")
    # Of untrained networks the scale is one everywhere.
    highest = max(float(run(baseline["feature"], s)["features"].max()) for s in samples["feature"])
    levels = MapLevels(levels_over(0, highest), levels_over(1, 1, hit_one=True))
    networks = {
        "feature fp32": baseline["feature"],
        "feature int8": quantize_graph(baseline["feature"], samples["feature"], levels),
        "feature int8, 7 bits": quantize_graph(
            baseline["feature"], samples["feature"], levels, weight_bits=7
        ),
        "FlowNet-Simple fp32": baseline["flow"],
        "FlowNet Inception fp32": small["flow"],
        "FlowNet Inception int8": quantize_graph(small["flow"], samples["flow"], levels),
        "FlowNet Inception int8, 7 bits": quantize_graph(
            small["flow"], samples["flow"], levels, weight_bits=7
        ),
    }
    jobs: dict[str, Callable[[], Any]] = {}
    for name, graph in networks.items():
        sample = samples["feature" if name.startswith("feature") else "flow"][0]
        engine = OrtEngine(graph, name=name, threads=options.threads)
        outputs = {key: spec.empty() for key, spec in engine.outputs.items()}
        jobs[name] = partial(engine.run, sample, outputs)
        peer = openvino_job(graph, sample, options.threads)
        if peer is not None:
            jobs[f"{name}, OpenVINO"] = peer
    times = interleaved_ms(jobs, repetitions=options.repetitions)
    figures = {
        "feature_int8_speedup": times["feature fp32"] / times["feature int8"],
        "flow_speedup": times["FlowNet-Simple fp32"] / times["FlowNet Inception int8"],
    }
    for figure, name in (("feature", "feature int8"), ("flow", "FlowNet Inception int8")):
        figures[f"seven_bits_{figure}"] = times[name] / times[f"{name}, 7 bits"]
        if f"{name}, OpenVINO" in times:
            figures[f"openvino_{figure}_int8"] = times[name] / times[f"{name}, OpenVINO"]
    report(figures, {f"{name} ms": round(value, 2) for name, value in times.items()}, options.json)


def run(graph: bytes, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Outputs of one run."""
    with OrtEngine(graph, name="graph") as engine:
        outputs = {name: spec.empty() for name, spec in engine.outputs.items()}
        engine.run(inputs, outputs)
    return outputs


def graphs(flow: str) -> dict[str, bytes]:
    """FP32 graphs of an untrained model."""
    config = ModelConfig(
        feature=FeatureConfig(name="resnet50"),
        flow=FlowConfig(name=flow),
        task=SegmentationConfig(classes=CLASSES, colours=COLOURS),
        frame_size=FRAME_SIZE,
    )
    checkpoint = Checkpoint("untrained", config, build_model(config).eval(), {}, "")
    return {
        name: model.SerializeToString() for name, model in export_graphs(checkpoint, 17).items()
    }


def calibration_samples() -> dict[str, list[dict[str, np.ndarray]]]:
    """Frames and pairs of one synthetic scene."""
    resizer = FrameResizer(FRAME_SIZE)
    scene = StreetScene(seed=0, split="val", size=FRAME_SIZE, length=CALIBRATION_FRAMES + 1)
    images = [scene.render(index)[0] for index in range(len(scene))]
    halves = []
    for image in images:
        half = np.empty((1, FRAME_SIZE[0] // 2, FRAME_SIZE[1] // 2, 3), np.uint8)
        resizer.half(image, half)
        halves.append(half)
    return {
        "feature": [{"frame": image[None]} for image in images[:CALIBRATION_FRAMES]],
        "flow": [{"key_half": halves[0], "frame_half": half} for half in halves[1:]],
    }


if __name__ == "__main__":
    main()
