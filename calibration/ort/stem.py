"""Rewrite the convolutions that read the frames, so that they read blocks of pixels.

A convolution of stride s over 3 or 6 channels reads its rows in small pieces. With s neighbouring
pixels of a row treated as one cell of s times the channels, which on channels-last frames is
nothing but another shape, the same sums are those of a narrower kernel of horizontal stride
one over more channels. Column ``s i + o`` of the frame, o from -p to k - 1 - p, lies in the
cell ``i + floor(o / s)``, so the kernel is as wide as there are cells, and weights of columns
outside the old kernel are zero.

Two frames are joined as blocks too, before they are cast, and their mean is subtracted as bytes:
Cast and Sub become an Add, which INT8 computes on bytes.
"""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from dff_edge.onnx_graphs.rewriting import Rewriter

# The nodes that dff_edge.export.graphs writes between the cast and joined frames and the first
# convolution, from there.
_CHAIN = ("Transpose", "Reshape", "Sub", "Reshape")


def rewrite_stem(model: onnx.ModelProto) -> onnx.ModelProto:
    """Let each network's first convolution read blocks of pixels, where it is as exported.

    Args:
        model: of static shapes, with uint8 inputs (1, H, W, 3). Not changed.

    Returns:
        A model that computes the same sums; the given one where it begins differently.
    """
    number = 0
    while (rewritten := _rewrite_one(model, f"stem{number or ''}")) is not None:
        model, number = rewritten, number + 1
    return model


def _rewrite_one(model: onnx.ModelProto, prefix: str) -> onnx.ModelProto | None:
    """Rewrite the first convolution that reads pixels; None where there is none left."""
    rewriter = Rewriter(model)
    for conv in rewriter.nodes("Conv"):
        chain = _chain_before(rewriter, conv.input[0])
        if chain is None:
            continue
        attributes = {a.name: helper.get_attribute_value(a) for a in conv.attribute}
        top, left, bottom, right = attributes.get("pads", [0, 0, 0, 0])
        stride_down, stride = attributes.get("strides", [1, 1])
        kernel = rewriter.values(conv.input[1])
        start = chain[-1].input[0]
        frames = [cast.input[0] for cast in _casts(rewriter, start)]
        _, height, width, channels = rewriter.shape(frames[0])
        columns = (width + left + right - kernel.shape[3]) // stride + 1
        is_plain = (
            attributes.get("dilations", [1, 1]) == [1, 1]
            and attributes.get("group", 1) == 1
            and attributes.get("auto_pad", b"NOTSET") == b"NOTSET"
        )
        if not is_plain or stride < 2 or width % stride or columns != width // stride:
            continue
        blocks, before, after = _as_blocks(kernel, len(frames), stride, left)
        mean = rewriter.values(chain[2].input[1])  # of a row of joined pixels
        per_frame = mean[: len(frames) * channels].reshape(len(frames), 1, channels)
        row = np.tile(np.tile(per_frame, (1, stride, 1)).reshape(-1), columns)

        joined = [
            _reshape(rewriter, frame, (1, height, columns, stride * channels), f"{prefix}/{frame}")
            for frame in frames
        ]
        last = joined[0]
        if len(joined) > 1:
            last = rewriter.add("Concat", joined, f"{prefix}/joined", axis=3)
        last = _reshape(rewriter, last, (1, height, row.size), f"{prefix}/rows")
        last = rewriter.add("Cast", [last], f"{prefix}/cast", to=TensorProto.FLOAT)
        minus_mean = rewriter.constant(f"{prefix}/minus_mean", -row.astype(np.float32))
        last = rewriter.add("Add", [last, minus_mean], f"{prefix}/centred")
        last = _reshape(rewriter, last, (1, height, columns, blocks.shape[1]), f"{prefix}/cells")
        last = rewriter.add("Transpose", [last], f"{prefix}/planes", perm=[0, 3, 1, 2])
        joins = _joins(rewriter, start)
        # Another network may read the same frame.
        casts = [
            cast
            for cast in _casts(rewriter, start)
            if rewriter.is_read_by(cast.output[0], (joins or chain[-1:])[0])
        ]
        rewriter.remove(conv, *chain, *joins, *casts)
        inputs = [last, rewriter.constant(f"{prefix}/kernel", blocks), *conv.input[2:]]
        last = rewriter.add(
            "Conv",
            inputs,
            f"{conv.name}/blocks",
            kernel_shape=list(blocks.shape[2:]),
            strides=[stride_down, 1],
            pads=[top, before, bottom, after],
        )
        rewriter.rename(last, conv.output[0])
        return rewriter.finish()
    return None


def _chain_before(rewriter: Rewriter, name: str) -> list[onnx.NodeProto] | None:
    """Return the nodes of ``_CHAIN`` that end in a value, None where they are others."""
    chain: list[onnx.NodeProto] = []
    reader = rewriter.users(name)[0]
    for operator in _CHAIN:
        node = rewriter.maker(name)
        if node is None or node.op_type != operator or not rewriter.is_read_by(name, reader):
            return None
        chain.append(node)
        name, reader = node.input[0], node
    joins, casts = _joins(rewriter, name), _casts(rewriter, name)
    are_joined_by_pixel = all(
        helper.get_attribute_value(join.attribute[0]) == 3 and rewriter.is_read_by(name, reader)
        for join in joins
    )
    is_ours = (
        helper.get_attribute_value(chain[0].attribute[0]) == [0, 3, 1, 2]
        and are_joined_by_pixel
        and bool(casts)
        and all(_is_frame(rewriter, cast.input[0]) for cast in casts)
        and _is_mean_of_pixels(rewriter, chain[2].input[1], [cast.input[0] for cast in casts])
    )
    return chain if is_ours else None


def _is_mean_of_pixels(rewriter: Rewriter, name: str, frames: list[str]) -> bool:
    """Return whether a stored row holds the same means for every pixel."""
    if not rewriter.is_stored(name):
        return False
    _, _, width, channels = rewriter.shape(frames[0])
    row = rewriter.values(name).ravel()
    pixel = channels * len(frames)
    return row.size == width * pixel and np.array_equal(row, np.tile(row[:pixel], width))


def _is_frame(rewriter: Rewriter, name: str) -> bool:
    is_bytes = rewriter.element_type(name) == TensorProto.UINT8
    return is_bytes and rewriter.maker(name) is None and len(rewriter.shape(name)) == 4


def _casts(rewriter: Rewriter, name: str) -> list[onnx.NodeProto]:
    """Return the nodes that cast the inputs of a join, or the value; empty for other nodes."""
    joins = _joins(rewriter, name)
    makers = [rewriter.maker(part) for part in (joins[0].input if joins else [name])]
    casts = [node for node in makers if node is not None and node.op_type == "Cast"]
    return casts if len(casts) == len(makers) else []


def _joins(rewriter: Rewriter, name: str) -> list[onnx.NodeProto]:
    node = rewriter.maker(name)
    return [node] if node is not None and node.op_type == "Concat" else []


def _reshape(rewriter: Rewriter, name: str, shape: tuple[int, ...], as_name: str) -> str:
    target = rewriter.constant(f"{as_name}/shape", np.array(shape, np.int64))
    return rewriter.add("Reshape", [name, target], as_name)


def _as_blocks(
    kernel: NDArray[np.float32], frames: int, stride: int, padding: int
) -> tuple[NDArray[np.float32], int, int]:
    """Return the kernel (K, frames 3, k, k) over blocks, and its extent in cells to either side.

    Channels of a block are ordered frame, column, colour.
    """
    count, channels, height, width = kernel.shape
    first, last = -padding // stride, (width - 1 - padding) // stride
    cells = last - first + 1
    blocks = np.zeros((count, frames, stride, channels // frames, height, cells), np.float32)
    for column in range(width):
        cell, place = divmod(column - padding, stride)
        source = kernel[..., column].reshape(count, frames, channels // frames, height)
        blocks[:, :, place, :, :, cell - first] = source
    shape = (count, frames * stride * (channels // frames), height, cells)
    return blocks.reshape(shape), -first, last
