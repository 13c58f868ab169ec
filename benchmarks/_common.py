"""Common parts of the benchmark scripts: the shipped model, timing, ``name=value`` lines."""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dff_edge.bundle.reader import Bundle
from dff_edge.cpuinfo import overflows_here
from dff_edge.errors import MissingDependencyError
from dff_edge.names import WeightBits
from dff_edge.report.machine import describe_machine
from dff_edge.runtime.engines.openvino import load_openvino

if TYPE_CHECKING:
    from dff_edge.trainer.models import ModelConfig

FRAME_SIZE = (512, 1024)  # of the paper's experiments on Cityscapes


def parser(description: str) -> argparse.ArgumentParser:
    """Return a parser with the options that every script has."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the figures and their background here")
    parser.add_argument("--threads", type=int, default=2, help="threads of the networks")
    return parser


def interleaved_ms(
    jobs: Mapping[str, Callable[[], Any]], *, repetitions: int, warmup: int = 1
) -> dict[str, float]:
    """Median time of each job, in ms; the jobs take turns, so that drift hits all alike."""
    for _ in range(warmup):
        for job in jobs.values():
            job()
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(repetitions):
        for name, job in jobs.items():
            start = time.perf_counter()
            job()
            times[name].append((time.perf_counter() - start) * 1e3)
    return {name: statistics.median(values) for name, values in times.items()}


def openvino_job(
    graph: bytes, inputs: dict[str, np.ndarray], threads: int
) -> Callable[[], object] | None:
    """A run of the graph in OpenVINO, None where that is not installed."""
    try:
        openvino = load_openvino("The benchmark")
    except MissingDependencyError:
        return None
    core = openvino.Core()
    options = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    request = core.compile_model(core.read_model(graph), "CPU", options).create_infer_request()
    return lambda: request.infer(inputs, share_inputs=True, share_outputs=True)


def export_shipped(
    folder: Path, name: str = "street", frame_size: tuple[int, int] | None = None
) -> Bundle:
    """A shipped model as an FP32 bundle, at its own frame size or another."""
    from dff_edge.export import export_bundle
    from dff_edge.trainer.checkpoint import load_checkpoint

    checkpoint = load_checkpoint(name)
    if frame_size is not None:
        checkpoint = checkpoint.at_frame_size(frame_size)
    return export_bundle(checkpoint, folder)


def street_images(size: tuple[int, int], count: int) -> list[np.ndarray]:
    """Frames of one synthetic street."""
    from dff_edge.synthetic import StreetScene

    scene = StreetScene(seed=0, split="val", size=size, length=count)
    return [np.ascontiguousarray(scene.render(index)[0]) for index in range(count)]


def paper_size_config() -> ModelConfig:
    """ResNet-101 and FlowNet Inception of the paper's size, 20 classes."""
    from dff_edge.trainer.models import FeatureConfig, FlowConfig, ModelConfig, SegmentationConfig

    return ModelConfig(
        feature=FeatureConfig(name="resnet101"),
        flow=FlowConfig(name="inception"),
        task=SegmentationConfig(
            classes=tuple(f"class {index}" for index in range(20)),
            colours=tuple((index, index, index) for index in range(20)),
        ),
        frame_size=FRAME_SIZE,
    )


def weight_bits() -> WeightBits:
    """Return the bits of INT8 weights that `dff-edge doctor` would advise on this CPU."""
    return 7 if overflows_here() else 8


def bits_of(bundle: Bundle) -> WeightBits:
    """Return the bits of the INT8 weights of a bundle."""
    return bundle.manifest.calibration["ort"]["int8"].weight_bits


def report(figures: Mapping[str, float], background: Mapping[str, Any], path: Path | None) -> None:
    """Print the background, then the figures as ``name=value``, and write both as JSON."""
    everything = {"date": date.today().isoformat(), "machine": describe_machine(), **background}
    for name, value in everything.items():
        print(f"{name}: {value}")
    for name, value in figures.items():
        print(f"{name}={value:.4g}")
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"figures": dict(figures), **everything}, indent=2, default=str))
