"""Small real bundles for tests: the contract of the real ones, random weights, in milliseconds.

The graphs depend on all of their inputs: features are two strided convolutions of the frame,
the flow stays within ``MAX_FLOW`` cells, the scale is near 1, ``propagate`` holds the warp as
the local function ``dff::Warp``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.inliner
from onnx import TensorProto, helper, numpy_helper

from dff_edge.bundle.contract import graph_contract
from dff_edge.bundle.levels import INT8, Levels, MapLevels
from dff_edge.bundle.reader import Bundle
from dff_edge.bundle.writer import BundleWriter
from dff_edge.names import SUBNETS, GraphName, Precision, Subnet

MAX_FLOW = 2.5  # cells
STRIDE = 16
LEVELS = MapLevels(features=Levels(0.125, 100), scale=Levels(1 / 128, 0))  # of int8
SYMMETRIC = MapLevels(features=Levels(0.25, 0, INT8), scale=Levels(1 / 64, 0, INT8))  # for TensorRT
OPSET = 17
IR_VERSION = 8

_ONNX_TYPES = {"uint8": TensorProto.UINT8, "float32": TensorProto.FLOAT}


def make_bundle(
    path: str | Path,
    frame_size: tuple[int, int] = (32, 64),
    channels: int = 8,
    classes: int = 3,
    *,
    precisions: Sequence[Precision] = ("fp32",),
    key_interval: int = 4,
    seed: int = 0,
) -> Bundle:
    """Write a bundle and open it; equal arguments give equal bytes.

    Precisions other than fp32 have other random weights, and stand in for the real ones where only
    files and types matter: int8 only between the subnets, fp16 in one product.
    """
    with BundleWriter.create(path) as writer:
        for number, precision in enumerate(precisions):
            graphs = make_graphs(frame_size, channels, classes, seed=seed + number, as_=precision)
            for subnet, data in graphs.items():
                writer.add_graph(precision, subnet, data)
        writer.update(**manifest_fields(frame_size, channels, classes, key_interval))
        if "int8" in precisions:
            writer.update(calibration={"ort": {"int8": calibration_fields()}})
        return writer.commit()


def make_graphs(
    frame_size: tuple[int, int] = (32, 64),
    channels: int = 8,
    classes: int = 3,
    *,
    seed: int = 0,
    as_: Precision = "fp32",
) -> dict[Subnet, bytes]:
    """Return the four graphs as ONNX files."""
    graphs = {}
    for subnet in SUBNETS:
        model = make_model(subnet, frame_size, channels, classes, seed=seed)
        if as_ == "int8":
            _travel_as_bytes(model, LEVELS)
        elif as_ == "fp16":
            _compute_in_halves(model)
        graphs[subnet] = model.SerializeToString()
    return graphs


def make_tensorrt_graphs(
    frame_size: tuple[int, int] = (32, 64),
    channels: int = 8,
    classes: int = 3,
    *,
    seed: int = 0,
    as_: Precision = "fp32",
) -> dict[GraphName, bytes]:
    """Return the graphs for TensorRT of the same weights as those of ``make_graphs``.

    In int8 they have the levels ``SYMMETRIC``; fp16 is not made.
    """
    models = {
        subnet: make_model(subnet, frame_size, channels, classes, seed=seed)
        for subnet in ("feature", "flow", "task", "propagate")
    }
    plugin = onnx.ModelProto()
    plugin.CopyFrom(models["task"])
    if as_ == "int8":
        for model in (*models.values(), plugin):
            _travel_as_bytes(model, SYMMETRIC)
    _add_plugin(plugin, models["propagate"], SYMMETRIC.scale.step if as_ == "int8" else 1.0)
    portable = onnx.inliner.inline_local_functions(models["propagate"])
    graphs = {**models, "propagate": plugin, "propagate_portable": portable}
    return {name: model.SerializeToString() for name, model in graphs.items()}


def _add_plugin(task: onnx.ModelProto, propagate: onnx.ModelProto, scale_step: float) -> None:
    """Put the plugin's node in front of a task graph, in place."""
    _rename(task.graph, "features", "warped")
    warp = helper.make_node(
        "DffWarp",
        ["features", "flow", "scale"],
        ["warped"],
        "warp",
        domain="dff",
        plugin_version="1",
        channels_last=1,
        scale_step=scale_step,
    )
    task.graph.node.insert(0, warp)
    del task.graph.input[:]
    task.graph.input.extend(propagate.graph.input)
    task.opset_import.append(helper.make_opsetid("dff", 1))


def make_model(
    subnet: Subnet,
    frame_size: tuple[int, int] = (32, 64),
    channels: int = 8,
    classes: int = 3,
    *,
    seed: int = 0,
) -> onnx.ModelProto:
    """Return one graph as an onnx model, for tests that damage it."""
    build = {"feature": _feature, "flow": _flow, "task": _task, "propagate": _propagate}[subnet]
    nodes, weights = build(frame_size, channels, classes, seed)
    contract = graph_contract(subnet, frame_size=frame_size, channels=channels, classes=classes)
    inputs, outputs = (
        [
            helper.make_tensor_value_info(s.name, _ONNX_TYPES[s.dtype.name], s.shape)
            for s in specs.values()
        ]
        for specs in (contract.inputs, contract.outputs)
    )
    graph = helper.make_graph(
        nodes,
        subnet,
        inputs,
        outputs,
        [numpy_helper.from_array(np.asarray(w, np.float32), n) for n, w in weights.items()],
    )
    functions = []
    imports = [helper.make_opsetid("", OPSET)]
    if subnet == "propagate":
        functions.append(_warp_function(frame_size))
        imports.append(helper.make_opsetid("dff", 1))
    model = helper.make_model(
        graph, functions=functions, opset_imports=imports, ir_version=IR_VERSION
    )
    onnx.checker.check_model(model)
    return model


def manifest_fields(
    frame_size: tuple[int, int] = (32, 64),
    channels: int = 8,
    classes: int = 3,
    key_interval: int = 4,
) -> dict[str, Any]:
    """Return the fields of a manifest that a writer does not fill in."""
    return {
        "classes": [
            {"name": f"class{i}", "colour": [(60 * i) % 256, (200 - 60 * i) % 256, 90]}
            for i in range(classes)
        ],
        "frame_size": list(frame_size),
        "normalisation": {"mean": [127.5] * 3, "std": [127.5] * 3},
        "channels": channels,
        "default_key_interval": key_interval,
        "provenance": {
            "created": "2026-01-01T00:00:00Z",
            "versions": {"dff_edge": "0.0.0", "onnx": onnx.__version__},
            "training_data": "none: random weights",
        },
    }


def calibration_fields(levels: MapLevels | None = LEVELS) -> dict[str, Any]:
    """Return the calibration record of ``make_graphs`` in int8, or one of float maps."""
    maps = {} if levels is None else levels.by_name
    return {
        **{name: {"step": own.step, "zero": own.zero} for name, own in maps.items()},
        "source": "synthetic://street",
        "sha256": "0" * 64,
        "clips": 2,
        "pairs": 20,
        "frames": 22,
        "date": "2026-01-01T00:00:00Z",
        "versions": {"dff_edge": "0.0.0"},
    }


def _travel_as_bytes(model: onnx.ModelProto, maps: MapLevels) -> None:
    """Make features and scale field bytes where they enter and leave, in place."""
    graph = model.graph
    for name, levels in maps.by_name.items():
        for value in (*graph.input, *graph.output):
            if value.name == name:
                value.type.tensor_type.elem_type = helper.np_dtype_to_tensor_dtype(levels.dtype)
        stored = {
            f"{name}_step": np.float32(levels.step),
            f"{name}_zero": levels.dtype.type(levels.zero),
        }
        graph.initializer.extend(
            numpy_helper.from_array(np.asarray(v), n) for n, v in stored.items()
        )
        for node in list(graph.node):
            if name in node.output:
                node.output[:] = [f"{name}_float"]
                graph.node.append(
                    helper.make_node("QuantizeLinear", [f"{name}_float", *stored], [name])
                )
        if any(value.name == name for value in graph.input):
            _rename(graph, name, f"{name}_float")
            graph.node.insert(
                0, helper.make_node("DequantizeLinear", [name, *stored], [f"{name}_float"])
            )
    if any("warped" in node.output for node in graph.node):
        _rename(graph, "warped", "warped_float")
        levels_of = ["features_step", "features_zero"]
        at = next(i for i, node in enumerate(graph.node) if "warped" in node.output) + 1
        graph.node.insert(
            at, helper.make_node("DequantizeLinear", ["warped_bytes", *levels_of], ["warped_float"])
        )
        graph.node.insert(
            at, helper.make_node("QuantizeLinear", ["warped", *levels_of], ["warped_bytes"])
        )
    onnx.checker.check_model(model)


def _compute_in_halves(model: onnx.ModelProto) -> None:
    """Round the input of the first product to float16, in place."""
    graph = model.graph
    node = next(node for node in graph.node if node.op_type in ("Conv", "MatMul"))
    name = node.input[0]
    casts = [
        helper.make_node("Cast", [name], [f"{name}_half"], to=TensorProto.FLOAT16),
        helper.make_node("Cast", [f"{name}_half"], [f"{name}_rounded"], to=TensorProto.FLOAT),
    ]
    at = list(graph.node).index(node)
    node.input[0] = f"{name}_rounded"
    for cast in reversed(casts):
        graph.node.insert(at, cast)


def _rename(graph: onnx.GraphProto, name: str, to: str) -> None:
    for node in graph.node:
        node.input[:] = [to if read == name else read for read in node.input]


_Parts = tuple[list[onnx.NodeProto], dict[str, Any]]


def _feature(frame_size: tuple[int, int], channels: int, classes: int, seed: int) -> _Parts:
    rng = np.random.default_rng([seed, 0])
    nodes = [
        *_normalise("frame", "image"),
        helper.make_node("Conv", ["image", "w1", "b1"], ["c1"], "conv1", strides=[4, 4]),
        helper.make_node("Relu", ["c1"], ["r1"], "relu1"),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], "conv2", strides=[4, 4]),
        helper.make_node("Relu", ["c2"], ["r2"], "relu2"),
        helper.make_node("Transpose", ["r2"], ["features"], "out", perm=[0, 2, 3, 1]),
    ]
    return nodes, {
        **_NORMALISE_WEIGHTS,
        "w1": rng.normal(0, 0.3, (8, 3, 4, 4)),
        "b1": rng.normal(0, 0.1, 8),
        "w2": rng.normal(0, 0.15, (channels, 8, 4, 4)),
        "b2": rng.normal(0.2, 0.1, channels),
    }


def _flow(frame_size: tuple[int, int], channels: int, classes: int, seed: int) -> _Parts:
    rng = np.random.default_rng([seed, 1])
    nodes = [
        helper.make_node("Concat", ["key_half", "frame_half"], ["both"], "concat", axis=3),
        *_normalise("both", "image"),
        helper.make_node("Conv", ["image", "w1", "b1"], ["c1"], "conv1", strides=[8, 8]),
        helper.make_node("Relu", ["c1"], ["r1"], "relu1"),
        helper.make_node("Conv", ["r1", "wf"], ["f1"], "flow_head"),
        helper.make_node("Clip", ["f1", "lowest", "highest"], ["f2"], "bound"),
        helper.make_node("Mul", ["f2", "max_flow"], ["f3"], "cells"),
        helper.make_node("Transpose", ["f3"], ["flow"], "flow_out", perm=[0, 2, 3, 1]),
        helper.make_node("Conv", ["r1", "ws", "bs"], ["s1"], "scale_head"),
        helper.make_node("Transpose", ["s1"], ["scale"], "scale_out", perm=[0, 2, 3, 1]),
    ]
    return nodes, {
        **_NORMALISE_WEIGHTS,
        "w1": rng.normal(0, 0.15, (16, 6, 8, 8)),
        "b1": rng.normal(0, 0.1, 16),
        "wf": rng.normal(0, 0.12, (2, 16, 1, 1)),
        "lowest": -1.0,
        "highest": 1.0,
        "max_flow": MAX_FLOW,
        "ws": rng.normal(0, 0.03, (channels, 16, 1, 1)),
        "bs": np.ones(channels),
    }


def _task(frame_size: tuple[int, int], channels: int, classes: int, seed: int) -> _Parts:
    rng = np.random.default_rng([seed, 2])
    nodes = [
        helper.make_node("MatMul", ["features", "w"], ["m"], "classify"),
        helper.make_node("Add", ["m", "b"], ["scores"], "bias"),
    ]
    weights = {
        "w": rng.normal(0, 1, (channels, classes)),
        "b": rng.normal(0, 0.1, classes),
    }
    return nodes, weights


def _propagate(frame_size: tuple[int, int], channels: int, classes: int, seed: int) -> _Parts:
    nodes, weights = _task(frame_size, channels, classes, seed)
    warp = helper.make_node("Warp", ["features", "flow", "scale"], ["warped"], "warp", domain="dff")
    nodes[0].input[0] = "warped"
    return [warp, *nodes], weights


def _warp_function(frame_size: tuple[int, int]) -> onnx.FunctionProto:
    """Return Eq. 1-3 in standard operators, for one size of feature map."""
    height, width = frame_size[0] // STRIDE, frame_size[1] // STRIDE
    size = np.array([width, height], np.float32)
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    cells = np.stack([columns, rows], axis=-1)[None]

    def constant(name: str, value: Any) -> onnx.NodeProto:
        tensor = numpy_helper.from_array(np.asarray(value, np.float32), name)
        return helper.make_node("Constant", [], [name], value=tensor)

    # grid = (2 (p + M) + 1) / size - 1 = M * (2 / size) + (2 p + 1) / size - 1
    nodes = [
        constant("far", 1e6),
        constant("step", 2 / size),
        constant("base", (2 * cells + 1) / size - 1),
        # NaN fails the comparison too; far outside the map counts as zero.
        helper.make_node("Abs", ["flow"], ["magnitude"]),
        helper.make_node("Less", ["magnitude", "far"], ["is_near"]),
        helper.make_node("Where", ["is_near", "flow", "far"], ["safe"]),
        helper.make_node("Mul", ["safe", "step"], ["moved"]),
        helper.make_node("Add", ["moved", "base"], ["grid"]),
        helper.make_node("Transpose", ["features"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node(
            "GridSample",
            ["planes", "grid"],
            ["sampled"],
            mode="bilinear",
            padding_mode="zeros",
            align_corners=0,
        ),
        helper.make_node("Transpose", ["sampled"], ["cells_last"], perm=[0, 2, 3, 1]),
        helper.make_node("Mul", ["cells_last", "scale"], ["warped"]),
    ]
    return helper.make_function(
        "dff",
        "Warp",
        ["features", "flow", "scale"],
        ["warped"],
        nodes,
        [helper.make_opsetid("", OPSET)],
    )


_NORMALISE_WEIGHTS = {"mean": 127.5, "inverse_std": 1 / 127.5}


def _normalise(source: str, result: str) -> list[onnx.NodeProto]:
    return [
        helper.make_node("Cast", [source], ["as_float"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Sub", ["as_float", "mean"], ["centred"], "sub"),
        helper.make_node("Mul", ["centred", "inverse_std"], ["unit"], "scale"),
        helper.make_node("Transpose", ["unit"], [result], "planes", perm=[0, 3, 1, 2]),
    ]
