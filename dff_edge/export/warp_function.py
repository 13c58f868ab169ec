"""The node ``dff::Warp``: Eq. (1)-(3) as an ONNX local function of standard operators.

ONNX Runtime runs the function's body; an engine that has the warp as a plugin replaces
the node by it.

Source: Zhu et al., "Deep Feature Flow for Video Recognition", CVPR 2017,
    https://arxiv.org/abs/1611.07715, section 3.
Differs from the paper: a flow that is not finite gives zero.

Shapes: C channels, h x w feature map; channels-last.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

DOMAIN, NAME = "dff", "Warp"

# Larger than any map, and yet far from the limits of a cast to int64.
_FAR_CELLS = 1e6


def warp_function(map_size: tuple[int, int], opset: int) -> onnx.FunctionProto:
    """Return the function for feature maps of ``(h, w)``.

    Its inputs are ``features``, ``flow`` and ``scale``, its output is ``warped``: all
    float32 as in docs/design/networks.md.

    Args:
        map_size: h and w; the coordinates of the cells are constants in the body.
        opset: version of the standard operators, 17 to 19. From 20 on GridSample names its
            modes differently, and older parsers treat an unknown name as "nearest".
    """
    height, width = map_size
    size = np.array([width, height], np.float32)
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    cells = np.stack([columns, rows], axis=-1)[None]  # (1, h, w, 2)
    # (2 (p + M) + 1) / size - 1 = M * (2 / size) + (2 p + 1) / size - 1, which has no division by
    # zero for maps of one row or column.
    nodes = [
        _constant("far", _FAR_CELLS),
        _constant("step", 2 / size),
        _constant("base", (2 * cells + 1) / size - 1),
        # NaN fails the comparison too. One far coordinate is enough to read zero.
        helper.make_node("Abs", ["flow"], ["magnitude"], "magnitude"),
        helper.make_node("Less", ["magnitude", "far"], ["is_near"], "is_near"),
        helper.make_node("Where", ["is_near", "flow", "far"], ["safe"], "safe"),
        helper.make_node("Mul", ["safe", "step"], ["moved"], "moved"),
        helper.make_node("Add", ["moved", "base"], ["grid"], "grid"),
        helper.make_node("Transpose", ["features"], ["planes"], "planes", perm=[0, 3, 1, 2]),
        helper.make_node(
            "GridSample",
            ["planes", "grid"],
            ["sampled"],
            "sampled",
            mode="bilinear",
            padding_mode="zeros",
            align_corners=0,
        ),
        helper.make_node("Transpose", ["sampled"], ["unscaled"], "unscaled", perm=[0, 2, 3, 1]),
        helper.make_node("Mul", ["unscaled", "scale"], ["warped"], "warped"),
    ]
    return helper.make_function(
        DOMAIN,
        NAME,
        ["features", "flow", "scale"],
        ["warped"],
        nodes,
        [helper.make_opsetid("", opset)],
    )


def propagate_model(task: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """Return propagate.onnx: the warp node in front of a task graph.

    Args:
        task: reads ``features`` ``(1, h, w, C)``, and a correction or not; not changed.
        opset: that of ``task``.
    """
    model = onnx.ModelProto()
    model.CopyFrom(task)
    graph = model.graph
    (features,) = (value for value in graph.input if value.name == "features")
    shape = [dim.dim_value for dim in features.type.tensor_type.shape.dim]
    for node in graph.node:
        node.input[:] = ["warped" if name == features.name else name for name in node.input]
    warp = helper.make_node(
        NAME, [features.name, "flow", "scale"], ["warped"], "warp", domain=DOMAIN
    )
    nodes = [warp, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    graph.name = "propagate"
    graph.input.append(_value("flow", [*shape[:3], 2]))
    graph.input.append(_value("scale", shape))
    graph.value_info.append(_value("warped", shape))
    model.functions.append(warp_function((shape[1], shape[2]), opset))
    model.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    onnx.checker.check_model(model, full_check=True)
    return model


def _value(name: str, shape: list[int]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)


def _constant(name: str, value: Any) -> onnx.NodeProto:
    tensor = numpy_helper.from_array(np.asarray(value, np.float32), name)
    return helper.make_node("Constant", [], [name], name, value=tensor)
