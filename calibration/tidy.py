"""What every graph goes through before it enters a bundle, and how propagate.onnx is rebuilt."""

from __future__ import annotations

import numpy as np
import onnx

from dff_edge import __version__
from dff_edge.runtime.contract import Levels, MapLevels
from dff_edge.runtime.onnx_check import LOCAL_DOMAIN


def finish(model: onnx.ModelProto) -> bytes:
    """Drop the notes of the tool that wrote a model, check it, and give the file's bytes."""
    model.producer_name, model.producer_version = "dff-edge", __version__
    model.doc_string = model.graph.doc_string = ""
    model.ClearField("metadata_props")
    for item in (model.graph, *model.graph.node, *model.graph.initializer):
        item.ClearField("metadata_props")
        item.ClearField("doc_string")
    used = {"", *(node.domain for node in model.graph.node)}
    imports = [entry for entry in model.opset_import if entry.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(imports)
    # The tools leave types and shapes of values that are no more.
    del model.graph.value_info[:]
    onnx.checker.check_model(model, full_check=True)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def propagate_with(propagate: bytes, task: bytes, levels: MapLevels | None = None) -> bytes:
    """Put another task graph behind the warp of a propagate graph.

    The warp itself is not touched: it computes in float32 in every precision, on bytes
    between DequantizeLinear and QuantizeLinear.

    Args:
        propagate: propagate.onnx, fp32.
        task: a task graph; its input is float32, or uint8 where there are levels.
        levels: of features and scale field, which are uint8 then.
    """
    model, head = onnx.load_from_string(propagate), onnx.load_from_string(task)
    (warp,) = (node for node in model.graph.node if node.domain == LOCAL_DOMAIN)
    (features,) = (value.name for value in head.graph.input)
    warped = warp.output[0]
    before: list[onnx.NodeProto] = []
    after: list[onnx.NodeProto] = []
    del model.graph.initializer[:]
    if levels is not None:
        for name, own in (("features", levels.features), ("scale", levels.scale)):
            before.append(_convert(model, "DequantizeLinear", name, f"{name}_float", own))
            warp.input[:] = [f"{name}_float" if n == name else n for n in warp.input]
        after.append(_convert(model, "QuantizeLinear", warped, f"{warped}_bytes", levels.features))
        for value in model.graph.input:
            if value.name in ("features", "scale"):
                value.type.tensor_type.elem_type = onnx.TensorProto.UINT8
    given = after[0].output[0] if after else warped
    for node in head.graph.node:
        node.input[:] = [given if n == features else n for n in node.input]
    nodes = [*before, warp, *after, *head.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(head.graph.initializer)
    known = {entry.domain for entry in model.opset_import}
    model.opset_import.extend(e for e in head.opset_import if e.domain not in known)
    return finish(model)


def _convert(
    model: onnx.ModelProto, operator: str, name: str, to: str, levels: Levels
) -> onnx.NodeProto:
    """A node between floats and bytes, its levels stored in the model."""
    stored = {"step": np.float32(levels.step), "zero": np.uint8(levels.zero)}
    for part, value in stored.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(value, f"{to}_{part}"))
    return onnx.helper.make_node(operator, [name, f"{to}_step", f"{to}_zero"], [to], to)
