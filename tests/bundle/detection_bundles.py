"""A small real bundle that detects: random weights, for tests of all that a bundle goes through.

The learned maps are random products of the features; ``propagate.onnx`` does not move them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from dff_edge.bundle.contract import graph_contract
from dff_edge.bundle.reader import Bundle
from dff_edge.bundle.rfcn import RfcnSettings
from dff_edge.bundle.writer import BundleWriter
from dff_edge.names import GraphName
from dff_edge.onnx_graphs.detection import whole_task
from dff_edge.synthetic import BOX_CLASSES
from tests.bundle.bundles import IR_VERSION, OPSET, STRIDE, make_graphs, manifest_fields

FRAME_SIZE = (64, 96)
CHANNELS, CLASSES = 8, len(BOX_CLASSES)
SETTINGS = RfcnSettings(
    bins=3,
    anchor_scales=(1.0, 2.0),
    anchor_ratios=(0.5, 1.0, 2.0),
    proposals_before_nms=100,
    proposals=20,
    detections=12,
)
_DTYPES = {"float32": TensorProto.FLOAT, "int32": TensorProto.INT32}


def make_detection_bundle(path: str | Path, *, seed: int = 0, **changes: Any) -> Bundle:
    """Write a bundle and open it; ``changes`` are fields of the manifest."""
    with BundleWriter.create(path) as writer:
        for name, data in make_detection_graphs(seed=seed).items():
            writer.add_graph("fp32", name, data)
        fields = manifest_fields(FRAME_SIZE, CHANNELS, CLASSES)
        classes = [
            {"name": name, "colour": [80 * index, 200 - 80 * index, 90]}
            for index, name in enumerate(BOX_CLASSES)
        ]
        own = {"task": "detection", "decoding": "rfcn", "rfcn": SETTINGS, "classes": classes}
        writer.update(**{**fields, **own, **changes})
        return writer.commit()


def make_detection_graphs(*, seed: int = 0) -> dict[GraphName, bytes]:
    """Return the five graphs as ONNX files."""
    own = make_graphs(FRAME_SIZE, CHANNELS, CLASSES, seed=seed)
    maps = _maps_graph(seed)
    task = whole_task(maps, SETTINGS, STRIDE)
    propagate = onnx.load_from_string(task)
    propagate.graph.input.extend(
        helper.make_tensor_value_info(spec.name, TensorProto.FLOAT, spec.shape)
        for spec in list(_contract("propagate").inputs.values())[1:]
    )
    return {
        "feature": own["feature"],
        "flow": own["flow"],
        "task": task,
        "task_maps": maps,
        "propagate": propagate.SerializeToString(),
    }


def _maps_graph(seed: int) -> bytes:
    rng = np.random.default_rng([seed, 3])
    outputs = _contract("task_maps").outputs
    deviations = {"objectness": 1.0, "deltas": 0.1, "class_maps": 3.0, "box_maps": 0.1}
    weights = {
        f"{name}_w": rng.normal(0, deviations[name], (CHANNELS, spec.shape[-1]))
        for name, spec in outputs.items()
    }
    nodes = [helper.make_node("MatMul", ["features", f"{n}_w"], [n]) for n in outputs]
    return _model("task_maps", nodes, weights)


def _contract(name: GraphName) -> Any:
    return graph_contract(
        name,
        frame_size=FRAME_SIZE,
        channels=CHANNELS,
        classes=CLASSES,
        task="detection",
        settings=SETTINGS,
    )


def _model(name: GraphName, nodes: list[onnx.NodeProto], weights: dict[str, Any]) -> bytes:
    contract = _contract(name)
    inputs, outputs = (
        [
            helper.make_tensor_value_info(s.name, _DTYPES[s.dtype.name], s.shape)
            for s in specs.values()
        ]
        for specs in (contract.inputs, contract.outputs)
    )
    tensors = [
        numpy_helper.from_array(
            np.asarray(w, np.float32) if w.dtype == np.float64 else np.asarray(w), n
        )
        for n, w in weights.items()
    ]
    graph = helper.make_graph(nodes, name, inputs, outputs, tensors)
    opsets = [helper.make_opsetid("", OPSET)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION).SerializeToString()
