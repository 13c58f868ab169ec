"""INT8 against FP32 networks on this CPU, with random weights: speed does not depend on them.

feature_int8_speedup   ResNet-50 feature network, 512x1024, FP32 time / INT8 time
flow_speedup           FP32 FlowNet-Simple time / INT8 FlowNet Inception time, same frames

Both at the paper's size, C = 1024, in ONNX Runtime, calibrated on synthetic street frames.
"""

from __future__ import annotations

import numpy as np
from _common import interleaved_ms, parser, report

from dff_edge.calibration.quantize import quantize_graph
from dff_edge.export.export import export_graphs
from dff_edge.runtime.engine import OrtEngine
from dff_edge.runtime.resize import FrameResizer
from dff_edge.runtime.synthetic import CLASSES, COLOURS, StreetScene
from dff_edge.trainer.checkpoint import Checkpoint
from dff_edge.trainer.models import FeatureConfig, FlowConfig, ModelConfig, TaskConfig, build_model

FRAME_SIZE = (512, 1024)
CALIBRATION_FRAMES = 4


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--repetitions", type=int, default=9)
    options = arguments.parse_args()

    samples = calibration_samples()
    baseline = graphs("simple")
    small = graphs("inception")
    networks = {
        "feature fp32": baseline["feature"],
        "feature int8": quantize_graph(baseline["feature"], samples["feature"]),
        "FlowNet-Simple fp32": baseline["flow"],
        "FlowNet Inception fp32": small["flow"],
        "FlowNet Inception int8": quantize_graph(small["flow"], samples["flow"]),
    }
    jobs = {}
    for name, graph in networks.items():
        engine = OrtEngine(graph, name=name, threads=options.threads)
        sample = samples["feature" if name.startswith("feature") else "flow"][0]
        outputs = {key: spec.empty() for key, spec in engine.outputs.items()}
        jobs[name] = lambda engine=engine, sample=sample, outputs=outputs: engine.run(
            sample, outputs
        )
    times = interleaved_ms(jobs, repetitions=options.repetitions)
    report(
        {
            "feature_int8_speedup": times["feature fp32"] / times["feature int8"],
            "flow_speedup": times["FlowNet-Simple fp32"] / times["FlowNet Inception int8"],
        },
        {f"{name} ms": round(value, 2) for name, value in times.items()},
        options.json,
    )


def graphs(flow: str) -> dict[str, bytes]:
    """FP32 graphs of an untrained model."""
    config = ModelConfig(
        feature=FeatureConfig(name="resnet50"),
        flow=FlowConfig(name=flow),
        task=TaskConfig(classes=CLASSES, colours=COLOURS),
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
