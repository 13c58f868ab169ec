"""Rewrite the product that computes the scale field, for an output in bytes.

The exported graph computes it as MatMul and Add of channels-last maps, which costs no
transpose in float and which INT8 can only compute to float. As a 1x1 convolution it writes
bytes, a quarter of the memory; ONNX Runtime's integer convolutions are channels-last
inside, so that the transposes on both sides cancel out. Where the product
reads a value that was transposed for it alone, that is left out here already.
"""

from __future__ import annotations

import onnx
from onnx import helper

from dff_edge.onnx_graphs.rewriting import Rewriter

_MOVES = ("Reshape", "Transpose")
_TO_LAST, _TO_FIRST = [0, 2, 3, 1], [0, 3, 1, 2]


def rewrite_product(model: onnx.ModelProto, output: str) -> onnx.ModelProto:
    """Replace MatMul and Add that end in an output by a 1x1 convolution.

    Args:
        model: of static shapes. Not changed.
        output: name of a graph output, (1, h, w, C), or of a value that is moved to be one or to
            which a correction is added.

    Returns:
        A model that computes the same; the given one where the output is made otherwise.
    """
    rewriter = Rewriter(model)
    made = output  # the value that is only moved to the output
    while (maker := rewriter.maker(made)) is not None and (
        maker.op_type in _MOVES or (maker.op_type == "Add" and not _adds_bias(rewriter, maker))
    ):
        made = maker.input[0]
    add = rewriter.maker(made)
    product = rewriter.maker(add.input[0]) if add is not None and add.op_type == "Add" else None
    if add is None or product is None or product.op_type != "MatMul":
        return model
    weight_name, bias = product.input[1], add.input[1]
    if not (rewriter.is_stored(weight_name) and rewriter.is_stored(bias)):
        return model
    if len(rewriter.shape(bias)) != 1 or not rewriter.is_read_by(product.output[0], add):
        return model
    weight = rewriter.values(weight_name).T[:, :, None, None]  # (C, C_in, 1, 1)
    kernel = rewriter.constant(f"{output}/kernel", weight)
    planes = _planes(rewriter, product, f"{output}/input")
    planes = rewriter.add("Conv", [planes, kernel, bias], f"{output}/planes", kernel_shape=[1, 1])
    last = rewriter.add("Transpose", [planes], f"{output}/last", perm=_TO_LAST)
    rewriter.remove(product, add)
    rewriter.rename(last, made)
    return rewriter.finish()


def _adds_bias(rewriter: Rewriter, node: onnx.NodeProto) -> bool:
    return bool(rewriter.is_stored(node.input[1]))


def _planes(rewriter: Rewriter, product: onnx.NodeProto, name: str) -> str:
    """Return a product's input channels first: before its transpose, if there is one."""
    rows = product.input[0]
    maker = rewriter.maker(rows)
    is_moved_for_it = (
        maker is not None
        and maker.op_type == "Transpose"
        and helper.get_attribute_value(maker.attribute[0]) == _TO_LAST
        and rewriter.is_read_by(rows, product)
    )
    if maker is None or not is_moved_for_it:
        return rewriter.add("Transpose", [rows], name, perm=_TO_FIRST)
    rewriter.remove(maker)
    return str(maker.input[0])
