"""What every graph goes through before it enters a bundle, and how propagate.onnx is rebuilt."""

from __future__ import annotations

import onnx

from dff_edge import __version__
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


def propagate_with(propagate: bytes, task: bytes) -> bytes:
    """Put another task graph behind the warp of a propagate graph.

    The warp itself is not touched: it computes in float32 in every precision.

    Args:
        propagate: propagate.onnx, fp32.
        task: a task graph with float32 inputs and outputs.
    """
    model, head = onnx.load_from_string(propagate), onnx.load_from_string(task)
    (warp,) = (node for node in model.graph.node if node.domain == LOCAL_DOMAIN)
    (features,) = (value.name for value in head.graph.input)
    for node in head.graph.node:
        node.input[:] = [warp.output[0] if n == features else n for n in node.input]
    nodes = [warp, *head.graph.node]
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(head.graph.initializer)
    known = {entry.domain for entry in model.opset_import}
    model.opset_import.extend(e for e in head.opset_import if e.domain not in known)
    return finish(model)
