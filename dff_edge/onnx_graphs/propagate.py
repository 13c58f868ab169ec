"""propagate.onnx in other precisions: the warp of fp32, followed by another task graph."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.inliner
from onnx import TensorProto, helper, numpy_helper

from dff_edge.bundle.graphs.onnx_file import LOCAL_DOMAIN, WARP_PLUGIN
from dff_edge.bundle.levels import Levels, MapLevels
from dff_edge.onnx_graphs.tidy import finish


def propagate_with(propagate: bytes, task: bytes, levels: MapLevels | None = None) -> bytes:
    """Append another task graph to the warp of a propagate graph.

    The warp itself is not touched: it computes in float32 in every precision, on bytes
    between DequantizeLinear and QuantizeLinear, on halves between casts.

    Args:
        propagate: propagate.onnx, fp32.
        task: a task graph; the type of its input is that of features and scale field, and its
            outputs are those of the result.
        levels: of features and scale field, where they are bytes.
    """
    model, head = onnx.load_from_string(propagate), onnx.load_from_string(task)
    (warp,) = (node for node in model.graph.node if node.domain == LOCAL_DOMAIN)
    features, element_type = "features", _input_of(head, "features").type.tensor_type.elem_type
    warped = warp.output[0]
    before: list[onnx.NodeProto] = []
    after: list[onnx.NodeProto] = []
    del model.graph.initializer[:]
    if levels is not None:
        for name, own in levels.by_name.items():
            before.append(_convert(model, "DequantizeLinear", name, f"{name}_float", own))
        after.append(_convert(model, "QuantizeLinear", warped, f"{warped}_bytes", levels.features))
    elif element_type == TensorProto.FLOAT16:
        before = [_cast(name, f"{name}_float", TensorProto.FLOAT) for name in ("features", "scale")]
        after = [_cast(warped, f"{warped}_half", element_type)]
    for node in before:
        warp.input[:] = [node.output[0] if n == node.input[0] else n for n in warp.input]
    for value in model.graph.input:
        if value.name in ("features", "scale"):
            value.type.tensor_type.elem_type = element_type
    given = after[0].output[0] if after else warped
    for node in head.graph.node:
        node.input[:] = [given if n == features else n for n in node.input]
    nodes = [*before, warp, *after, *head.graph.node]
    del model.graph.node[:], model.graph.output[:]
    model.graph.node.extend(nodes)
    model.graph.output.extend(head.graph.output)
    model.graph.initializer.extend(head.graph.initializer)
    known = {entry.domain for entry in model.opset_import}
    model.opset_import.extend(e for e in head.opset_import if e.domain not in known)
    return finish(model)


def portable_propagate(propagate: bytes, task: bytes, levels: MapLevels | None = None) -> bytes:
    """Call ``propagate_with`` for TensorRT: the warp's function is inlined.

    A parser that has the plugin would use it for the function's name, and older ones do not
    support functions.
    """
    model = onnx.load_from_string(propagate_with(propagate, task, levels))
    return finish(onnx.inliner.inline_local_functions(model))


def plugin_propagate(propagate: bytes, task: bytes, levels: MapLevels | None = None) -> bytes:
    """Append a task graph to the warp as a plugin node of TensorRT.

    The node reads features and scale field in the type of the maps, flow in float32, and returns
    the type of the features; int8 in the levels of the features, rounded once.

    Args:
        propagate: propagate.onnx, fp32; its inputs are kept.
        task: a task graph; the type of its input is that of features and scale field.
        levels: of features and scale field, where they are int8; their zeros are 0.
    """
    model, head = onnx.load_from_string(propagate), onnx.load_from_string(task)
    warp = helper.make_node(
        WARP_PLUGIN,
        ["features", "flow", "scale"],
        ["warped"],
        "warp",
        domain=LOCAL_DOMAIN,
        # TensorRT 10.3 looks for the plugin by these two alone.
        plugin_version="1",
        plugin_namespace="",
        channels_last=1,
        # Used for int8 alone, but TensorRT warns where a node lacks an attribute.
        scale_step=1.0 if levels is None else levels.scale.step,
    )
    features = _input_of(head, "features")
    for value in model.graph.input:
        if value.name in ("features", "scale"):
            value.type.tensor_type.elem_type = features.type.tensor_type.elem_type
    for node in head.graph.node:
        node.input[:] = ["warped" if name == features.name else name for name in node.input]
    del model.graph.node[:], model.graph.initializer[:], model.functions[:], model.graph.output[:]
    model.graph.node.extend([warp, *head.graph.node])
    model.graph.output.extend(head.graph.output)
    model.graph.initializer.extend(head.graph.initializer)
    return finish(model)


def _input_of(model: onnx.ModelProto, name: str) -> onnx.ValueInfoProto:
    (value,) = (value for value in model.graph.input if value.name == name)
    return value


def _cast(name: str, to: str, element_type: int) -> onnx.NodeProto:
    return helper.make_node("Cast", [name], [to], to, to=element_type)


def _convert(
    model: onnx.ModelProto,
    operator: str,
    name: str,
    to: str,
    levels: Levels,
) -> onnx.NodeProto:
    """Return a node between floats and bytes, its levels stored in the model."""
    stored = {"step": np.float32(levels.step), "zero": np.asarray(levels.zero, levels.dtype)}
    for part, value in stored.items():
        model.graph.initializer.append(numpy_helper.from_array(value, f"{to}_{part}"))
    return helper.make_node(operator, [name, f"{to}_step", f"{to}_zero"], [to], to)
