"""Export of a checkpoint as a bundle: graphs, their check against torch, and the manifest."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnx
import torch

from dff_edge import __version__
from dff_edge.bundle.reader import Bundle
from dff_edge.bundle.records import date_of_record
from dff_edge.bundle.tasks import FORMATS
from dff_edge.bundle.writer import BundleWriter
from dff_edge.export.graphs import FeatureGraph, FlowGraph, TaskGraph
from dff_edge.export.parity import check_parity
from dff_edge.export.to_onnx import check_opset, export_onnx
from dff_edge.export.warp_function import propagate_model
from dff_edge.files.disk import check_room
from dff_edge.names import FlowFunction, GraphName, Subnet
from dff_edge.onnx_graphs.detection import whole_task
from dff_edge.onnx_graphs.propagate import plugin_propagate, portable_propagate
from dff_edge.printable import printable
from dff_edge.trainer.checkpoint import Checkpoint

_MAX_CONFIG_CHARS = 65536  # of the manifest


def export_bundle(
    checkpoint: Checkpoint,
    output: Path,
    *,
    interval: int = 10,
    opset: int = 17,
    flow: FlowFunction = "network",
    replace: bool = False,
    command: str = "",
    progress: Callable[[str], None] | None = None,
) -> Bundle:
    """Write the fp32 bundle of a checkpoint, for ONNX Runtime and for TensorRT.

    With hand-crafted flow (SFF) the bundle has no flow graph, and none for TensorRT.

    Args:
        checkpoint: a loaded one.
        output: folder of the bundle; absent or empty, unless ``replace``.
        interval: default key interval l of the bundle.
        opset: version of the standard ONNX operators, 17 to 19.
        flow: source of the flow: the checkpoint's network, or a hand-crafted function.
        replace: whether an existing bundle may be replaced.
        command: the command line, for the manifest.
        progress: called with a line for each step.

    Returns:
        The bundle, verified. A flow network without scale head is exported with a scale of ones.

    Raises:
        ConfigError: an operator set outside 17 to 19.
        ExportError: a graph does not compute what its model computes; nothing is written.
        BundleError: the folder is not empty, or the manifest would not be valid.
        DiskError: there is no room for it, or it cannot be written to; checked first.
    """
    say = progress or (lambda line: None)
    check_opset(opset)
    config = checkpoint.config
    with BundleWriter.create(output, replace=replace) as writer:
        check_room(output, 4 * sum(p.numel() for p in checkpoint.model.parameters()), "the bundle")
        graphs: dict[Subnet, bytes] = {
            subnet: model.SerializeToString(deterministic=True)
            for subnet, model in export_graphs(checkpoint, opset, say, flow=flow).items()
        }
        say("comparing the graphs with the model")
        parity = check_parity(checkpoint.model, graphs, config.frame_size, config.channels)
        for subnet, data in graphs.items():
            writer.add_graph("fp32", subnet, data)
        if flow == "network":
            for name, data in tensorrt_graphs(graphs).items():
                writer.add_graph("fp32", name, data, "trt")
        known = FORMATS.find(config.task.name)
        if known.settings == "rfcn" and config.rfcn is not None:
            writer.update(rfcn=config.rfcn.model_dump())
        if checkpoint.score_threshold is not None:
            writer.update(score_threshold=checkpoint.score_threshold)
        writer.update(
            task=known.name,
            decoding=known.decoding,
            classes=[
                {"name": name, "colour": list(colour)}
                for name, colour in zip(config.task.classes, config.task.colours, strict=True)
            ],
            frame_size=config.frame_size,
            normalisation={"mean": config.mean, "std": config.std},
            stride=config.feature.stride,
            channels=config.channels,
            flow_function=flow,
            correction=_has_correction(checkpoint, flow) or None,
            default_key_interval=interval,
            provenance=_provenance(checkpoint, command),
            parity=parity,
        )
        bundle = writer.commit()
    worst = max(record.relative_error for record in parity)
    say(f"wrote {bundle.path}: largest relative error against the model {worst:.1e}")
    return bundle


def export_graphs(
    checkpoint: Checkpoint,
    opset: int,
    say: Callable[[str], None] = lambda line: None,
    *,
    flow: FlowFunction = "network",
) -> dict[Subnet, onnx.ModelProto]:
    """Return the graphs of a checkpoint, not yet compared with it; hand-crafted flow has none."""
    config, model = checkpoint.config, checkpoint.model
    (height, width), stride = config.frame_size, config.feature.stride
    half = torch.zeros((1, height // 2, width // 2, 3), dtype=torch.uint8)
    has_correction = _has_correction(checkpoint, flow)
    say("exporting the feature network")
    feature = export_onnx(
        FeatureGraph(model, config.frame_size),
        "feature",
        {"frame": torch.zeros((1, height, width, 3), dtype=torch.uint8)},
        ["features"],
        opset,
    )
    graphs: dict[Subnet, onnx.ModelProto] = {"feature": feature}
    if flow == "network":
        say("exporting the flow network")
        graphs["flow"] = export_onnx(
            FlowGraph(model, config.frame_size, config.channels),
            "flow",
            {"key_half": half, "frame_half": half.clone()},
            ["flow", "scale"] + ["correction"] * has_correction,
            opset,
        )
    say("exporting the task network")
    known, cells = FORMATS.find(config.task.name), (height // stride, width // stride)
    outputs = known.outputs(cells, len(config.task.classes), config.rfcn)
    inputs = {"features": torch.zeros((1, *cells, config.channels))}
    if has_correction:
        inputs["correction"] = torch.zeros((1, *cells, config.task.map_channels))
    task = export_onnx(
        TaskGraph(model),
        "task",
        inputs,
        [spec.name for spec in outputs],
        opset,
    )
    if known.has_task_maps and model.rfcn is not None:
        graphs["task_maps"] = task
        task = onnx.load_from_string(whole_task(task.SerializeToString(), model.rfcn, stride))
    propagate = propagate_model(task, opset)
    return {**graphs, "task": task, "propagate": propagate}


def tensorrt_graphs(graphs: Mapping[Subnet, bytes]) -> dict[GraphName, bytes]:
    """Return the fp32 graphs for TensorRT: those of ONNX Runtime with another warp.

    A detector's end with the learned maps: TensorRT supports none of the later operators.
    """
    warp, task = graphs["propagate"], graphs.get("task_maps", graphs["task"])
    return {
        "feature": graphs["feature"],
        "flow": graphs["flow"],
        "task": task,
        "propagate": plugin_propagate(warp, task),
        "propagate_portable": portable_propagate(warp, task),
    }


def _trained_distance(config: Any) -> int | None:
    """Return the largest i - k of the training pairs; None where the card does not say it."""
    try:
        distance = config["data"]["max_distance"]
        has_pairs = any(stage["kind"] == "pairs" for stage in config["stages"])
    except (KeyError, TypeError):
        return None
    is_known = has_pairs and isinstance(distance, int) and 0 <= distance <= 10_000
    return distance if is_known else None


def _has_correction(checkpoint: Checkpoint, flow: FlowFunction) -> bool:
    """Return whether there is a correction: its network is part of the flow graph."""
    return checkpoint.model.correction is not None and flow == "network"


def _provenance(checkpoint: Checkpoint, command: str) -> dict[str, Any]:
    training = checkpoint.training
    config = training.get("config", training)
    data = config.get("data", {}) if isinstance(config, dict) else {}
    text = json.dumps({"model": checkpoint.name, "training": training}, indent=1, default=str)
    return {
        "created": date_of_record(),
        "versions": {
            "dff_edge": __version__,
            **{name: version(name) for name in ("onnx", "onnxruntime", "onnxscript", "torch")},
        },
        "command": printable(command)[:4096],
        "config": text[:_MAX_CONFIG_CHARS],
        "max_distance": _trained_distance(config),
        "training_data": printable(data.get("train", "") if isinstance(data, dict) else "")[:4096],
        "checkpoint_sha256": checkpoint.digest,
    }
