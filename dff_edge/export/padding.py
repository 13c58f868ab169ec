"""Folding of zero padding into the convolution after it.

TensorFlow's "same" padding adds more below and to the right than above and to the left wherever an
odd number of cells is missing, which torch's convolutions do not support, and ONNX's do.
"""

from __future__ import annotations

import onnx
from onnx import helper, numpy_helper


def fold_padding(model: onnx.ModelProto) -> None:
    """Move the padding of a Pad node that feeds one convolution into that convolution, in place.

    Args:
        model: whose Pad nodes have stored amounts. Others, and those of other values than zero or
            other axes than rows and columns, are left.
    """
    graph = model.graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    for pad in [node for node in graph.node if node.op_type == "Pad"]:
        readers = [node for node in graph.node if pad.output[0] in node.input]
        amounts = _amounts(pad, stored)
        if amounts is None or len(readers) != 1 or readers[0].op_type != "Conv":
            continue
        conv = readers[0]
        own = next((a for a in conv.attribute if a.name == "pads"), None)
        before = [0, 0, 0, 0] if own is None else list(own.ints)
        if own is not None:
            conv.attribute.remove(own)
        sums = [a + b for a, b in zip(before, amounts, strict=True)]
        conv.attribute.append(helper.make_attribute("pads", sums))
        conv.input[0] = pad.input[0]
        graph.node.remove(pad)
    read = {name for node in graph.node for name in node.input}
    for name in stored.keys() - read - {value.name for value in graph.output}:
        graph.initializer.remove(stored[name])


def _amounts(pad: onnx.NodeProto, stored: dict[str, onnx.TensorProto]) -> list[int] | None:
    """Return the cells added above, left, below and right; None for other padding."""
    attributes = {a.name: helper.get_attribute_value(a) for a in pad.attribute}
    inputs = [name for name in pad.input[1:] if name]
    if attributes.get("mode", b"constant") != b"constant" or not set(inputs) <= stored.keys():
        return None
    values = [numpy_helper.to_array(stored[name]) for name in inputs]
    if len(values) > 2 or values[0].size != 8 or (len(values) > 1 and values[1].any()):
        return None
    starts, ends = values[0][:4].tolist(), values[0][4:].tolist()
    return None if starts[:2] + ends[:2] != [0, 0, 0, 0] else starts[2:] + ends[2:]
