"""Zero padding in front of a convolution becomes the convolution's own."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from dff_edge.export.padding import fold_padding

SHAPE = (1, 3, 4, 4)
MAPS = np.random.default_rng(1).standard_normal((1, 2, 5, 6)).astype(np.float32)


def padded(amounts=(0, 0, 1, 0, 0, 0, 2, 3), value=0.0, readers=1, own=(0, 1, 2, 0), **options):
    kernel = np.random.default_rng(2).standard_normal((3, 2, 3, 3)).astype(np.float32)
    nodes = [helper.make_node("Pad", ["maps", "amounts", "value"], ["padded"], **options)]
    nodes += [
        helper.make_node("Conv", ["padded", "kernel"], [f"out{n}"], pads=own, strides=[2, 2])
        for n in range(readers)
    ]
    stored = {
        "amounts": np.array(amounts, np.int64),
        "value": np.float32(value),
        "kernel": kernel,
    }
    graph = helper.make_graph(
        nodes,
        "padded",
        [helper.make_tensor_value_info("maps", TensorProto.FLOAT, MAPS.shape)],
        [
            helper.make_tensor_value_info(f"out{n}", TensorProto.FLOAT, SHAPE)
            for n in range(readers)
        ],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in stored.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])


def test_uneven_padding_is_folded():
    model = padded()
    (expected,) = ReferenceEvaluator(model).run(None, {"maps": MAPS})

    fold_padding(model)

    onnx.checker.check_model(model, full_check=True)
    assert [node.op_type for node in model.graph.node] == ["Conv"]
    assert {tensor.name for tensor in model.graph.initializer} == {"kernel"}
    (found,) = ReferenceEvaluator(model).run(None, {"maps": MAPS})
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "change",
    [
        {"value": 1.0},
        {"mode": "reflect"},
        {"readers": 2},
        {"amounts": (0, 1, 0, 0, 0, 0, 0, 0), "readers": 0},
    ],
    ids=["other value", "reflected", "read twice", "more channels"],
)
def test_other_padding_stays(change):
    model = padded(**change)

    fold_padding(model)

    assert "Pad" in [node.op_type for node in model.graph.node]
