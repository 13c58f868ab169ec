"""Weights that several layers of a quantised graph share."""

from __future__ import annotations

import onnx


def copy_shared_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """Give each layer int8 weights of its own, in place, and return the model.

    The quantisers store a tensor once, with one DequantizeLinear that all its readers share.
    On x86 without VNNI, ONNX Runtime 1.32 converts those of each layer, and fails where it would
    have to do it twice.
    """
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes = list(model.graph.node)
    for maker in nodes:
        weights = stored.get(maker.input[0]) if maker.op_type == "DequantizeLinear" else None
        if weights is None or weights.data_type != onnx.TensorProto.INT8:
            continue
        shared = maker.output[0]
        readers = [node for node in nodes if shared in node.input]
        for number, reader in enumerate(readers[1:], start=1):
            copied = onnx.NodeProto()
            copied.CopyFrom(maker)
            for names in (copied.input, copied.output):
                names[:] = [f"{name}_copy{number}" for name in names]
            copied.name = f"{maker.name}_copy{number}"
            for name in maker.input:
                tensor = model.graph.initializer.add()
                tensor.CopyFrom(stored[name])
                tensor.name = f"{name}_copy{number}"
            model.graph.node.insert(0, copied)  # it reads constants alone
            reader.input[:] = [copied.output[0] if n == shared else n for n in reader.input]
    return model
