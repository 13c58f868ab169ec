"""Final clean-up of every graph before it enters a bundle."""

from __future__ import annotations

import onnx

from dff_edge import __version__


def finish(model: onnx.ModelProto) -> bytes:
    """Drop the notes of the tool that wrote a model, check it, and return the file's bytes."""
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
    # The tools leave types and shapes of values that no longer exist.
    del model.graph.value_info[:]
    onnx.checker.check_model(model, full_check=True)
    data: bytes = model.SerializeToString(deterministic=True)
    return data
