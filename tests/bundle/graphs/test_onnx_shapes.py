"""Shapes and types of each operator against what ONNX Runtime gives, and what does not fit.

Those of onnx_windows too, and what both share (onnx_values).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from dff_edge.bundle.graphs.onnx_operators import OPERATORS
from dff_edge.errors import BundleError
from tests.bundle.graphs.onnx_graphs import check, model_of, node

RNG = np.random.default_rng(3)
F, H, I8, U8, I32, I64, B = (
    TensorProto.FLOAT,
    TensorProto.FLOAT16,
    TensorProto.INT8,
    TensorProto.UINT8,
    TensorProto.INT32,
    TensorProto.INT64,
    TensorProto.BOOL,
)


def floats(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


# Operator, inputs that are computed, inputs that are stored (behind them), attributes.
Case = tuple[str, list[np.ndarray], list[np.ndarray], dict[str, Any]]
CASES: list[Case] = [
    ("Abs", [floats(2, 3)], [], {}),
    ("Add", [floats(2, 1, 5)], [floats(3, 1)], {}),
    ("Add", [floats(1, 4), floats(1, 4)], [], {}),
    ("And", [floats(3) > 0, floats(2, 1) > 0], [], {}),
    ("AveragePool", [floats(1, 2, 7, 9)], [], {"kernel_shape": [2, 3], "strides": [2, 1]}),
    ("Cast", [np.arange(6, dtype=np.uint8)], [], {"to": F}),
    ("Cast", [floats(2, 2)], [], {"to": H}),
    ("Cast", [floats(2, 2) > 0], [], {"to": I32}),
    ("Clip", [floats(2, 2)], [np.float32(-1), np.float32(1)], {}),
    ("Clip", [np.arange(6, dtype=np.uint8)], [np.uint8(3)], {}),
    ("Concat", [floats(1, 2, 3), floats(1, 4, 3)], [], {"axis": 1}),
    ("Concat", [floats(1, 2, 3), floats(1, 2, 1)], [floats(1, 2, 2)], {"axis": -1}),
    ("Constant", [], [], {"value": numpy_helper.from_array(floats(2, 3))}),
    ("Conv", [floats(1, 6, 9, 7)], [floats(4, 6, 3, 3), floats(4)], {"strides": [2, 2]}),
    ("Conv", [floats(1, 6, 9, 7)], [floats(6, 1, 3, 5)], {"group": 6, "pads": [1, 2, 0, 3]}),
    (
        "Conv",
        [floats(1, 2, 9, 9)],
        [floats(3, 2, 3, 3)],
        {"dilations": [2, 3], "pads": [1, 1, 1, 1], "kernel_shape": [3, 3]},
    ),
    ("ConvTranspose", [floats(1, 3, 4, 5)], [floats(3, 2, 4, 4)], {"strides": [2, 2]}),
    (
        "ConvTranspose",
        [floats(1, 3, 4, 5)],
        [floats(3, 2, 4, 4), floats(2)],
        {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 0]},
    ),
    ("DequantizeLinear", [np.arange(6, dtype=np.uint8)], [np.float32(0.5), np.uint8(3)], {}),
    (
        "DequantizeLinear",
        [],
        [np.zeros((2, 3), np.int8), np.ones(2, np.float32), np.zeros(2, np.int8)],
        {"axis": 0},
    ),
    ("Div", [floats(2, 3)], [floats(3)], {}),
    ("Div", [ints(4, 5, 6)], [ints(2)[0]], {}),
    ("Exp", [floats(2, 2)], [], {}),
    ("Gather", [floats(5, 2), ints(0, 4, 4)], [], {}),
    ("GatherND", [floats(3, 4), ints(0, 1, 2, 3).reshape(2, 2)], [], {}),
    ("GatherND", [floats(3, 4), ints(0, 1).reshape(2, 1)], [], {}),
    ("Gemm", [floats(2, 3)], [floats(3, 4), floats(4)], {}),
    ("Greater", [floats(2, 3), floats(3)], [], {}),
    (
        "GridSample",
        [floats(1, 3, 4, 5), floats(1, 6, 7, 2)],
        [],
        {"mode": "bilinear", "padding_mode": "zeros", "align_corners": 0},
    ),
    ("Identity", [floats(2, 3)], [], {}),
    ("LeakyRelu", [floats(2, 3)], [], {"alpha": 0.1}),
    ("Less", [floats(2, 3)], [np.float32(1)], {}),
    ("MatMul", [floats(1, 2, 3, 4)], [floats(4, 5)], {}),
    ("MatMul", [floats(2, 3), floats(3, 4)], [], {}),
    ("Max", [floats(2, 3)], [np.float32(0)], {}),
    ("MaxPool", [floats(1, 2, 8, 9)], [], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
    ("MaxPool", [floats(1, 2, 8, 9)], [], {"kernel_shape": [2, 2], "strides": [2, 2]}),
    ("Min", [floats(2, 3)], [floats(3)], {}),
    ("Mul", [floats(2, 3)], [floats(2, 1)], {}),
    (
        "QuantizeLinear",
        [floats(2, 3)],
        [np.ones(3, np.float32), np.zeros(3, np.uint8)],
        {"axis": 1},
    ),
    ("QuantizeLinear", [floats(2, 3)], [np.float32(0.5), np.int8(0)], {}),
    ("ReduceSum", [np.arange(6, dtype=np.int32)], [], {"keepdims": 1}),
    ("Relu", [floats(2, 3)], [], {}),
    ("Reshape", [floats(2, 3, 4)], [ints(4, -1)], {}),
    ("Reshape", [floats(2, 3, 4)], [ints(0, 12)], {}),
    ("Reshape", [floats(2, 3, 4)], [ints(1, 24, 1)], {"allowzero": 1}),
    (
        "RoiAlign",
        [floats(2, 3, 8, 8), np.abs(floats(4, 4))],
        [ints(0, 1, 1, 0)],
        {
            "output_height": 1,
            "output_width": 1,
            "sampling_ratio": 2,
            "spatial_scale": 0.0625,
            "mode": "avg",
            "coordinate_transformation_mode": "half_pixel",
        },
    ),
    ("ScatterND", [floats(3, 4), ints(0, 1, 2, 3).reshape(2, 2), floats(2)], [], {}),
    ("Slice", [floats(4, 9)], [ints(1), ints(5), ints(1)], {}),
    ("Slice", [floats(4, 9)], [ints(-3, 0), ints(100, 2), ints(1, 0), ints(1, 1)], {}),
    ("Softmax", [floats(2, 3)], [], {"axis": 1}),
    ("Sub", [floats(2, 3)], [floats(3)], {}),
    ("TopK", [floats(9)], [ints(4)], {"axis": 0}),
    ("Transpose", [floats(1, 2, 3, 4)], [], {"perm": [0, 3, 1, 2]}),
    ("Where", [floats(2, 3) > 0, floats(2, 3)], [np.float32(0)], {}),
]


def graph_of(case: Case, outputs: list[np.ndarray] | None = None) -> onnx.ModelProto:
    operator, computed, stored, attributes = case
    names = [f"in{i}" for i in range(len(computed) + len(stored))]
    count = OPERATORS[operator].outputs
    told = outputs or [np.zeros(1, np.float32)] * count
    return model_of(
        node(operator, names, [f"out{i}" for i in range(count)], **attributes),
        inputs={
            name: (helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
            for name, a in zip(names, computed, strict=False)
        },
        outputs={
            f"out{i}": (helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
            for i, a in enumerate(told)
        },
        stored=dict(zip(names[len(computed) :], stored, strict=True)),
    )


def run(model: onnx.ModelProto, inputs: list[np.ndarray], outputs: list[str]) -> list[np.ndarray]:
    """Compute a model whose outputs have no told types."""
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
    typed = onnx.shape_inference.infer_shapes(model)
    session = onnxruntime.InferenceSession(typed.SerializeToString(), _quiet())
    return session.run(outputs, {f"in{i}": array for i, array in enumerate(inputs)})


def _quiet() -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return options


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_shapes_and_types_are_those_of_onnxruntime(case):
    outputs = [f"out{i}" for i in range(OPERATORS[case[0]].outputs)]
    found = run(graph_of(case), case[1], outputs)

    values = check(graph_of(case, found)).values if case[0] != "Constant" else None

    if values is None:  # which no graph gives as its output
        with pytest.raises(BundleError, match="has a stored tensor"):
            check(graph_of(case, found))
        return
    for index, array in enumerate(found):
        value = values[f"out{index}"]
        assert (value.dtype, value.shape) == (array.dtype, array.shape)


def test_every_operator_has_a_case():
    assert {case[0] for case in CASES} | {"NonMaxSuppression"} == OPERATORS.keys()


def suppression(most: int, limit: float = 0.5, score: float = -1.0) -> onnx.ModelProto:
    """NMS of 6 boxes in 2 classes; the rows that it gives are counted by a Slice."""
    return model_of(
        node(
            "NonMaxSuppression",
            ["in0", "in1", "most", "limit", "score"],
            ["chosen"],
        ),
        node("Slice", ["chosen", "from", "to", "axes"], ["places"]),
        node("GatherND", ["in1", "chosen"], ["found"]),
        node("ScatterND", ["in1", "chosen", "found"], ["y"]),
        inputs={"in0": (F, (1, 6, 4)), "in1": (F, (1, 2, 6))},
        outputs={"y": (F, (1, 2, 6))},
        stored={
            "most": ints(most),
            "limit": np.array([limit], np.float32),
            "score": np.array([score], np.float32),
            "from": ints(1),
            "to": ints(3),
            "axes": ints(1),
        },
    )


@pytest.mark.parametrize(("most", "rows"), [(1, 2), (4, 8), (100, 12)])
def test_of_suppression_the_most_that_there_may_be_is_told(most, rows):
    values = check(suppression(most)).values

    assert values["chosen"].shape == (rows, 3)
    assert (values["places"].shape, values["found"].shape) == ((rows, 2), (rows,))


def test_what_suppression_may_leave_is_left_where_no_boxes_meet():
    boxes = np.array([[[10 * i, 0, 10 * i + 1, 1] for i in range(6)]], np.float32)

    (chosen,) = run(suppression(100), [boxes, np.ones((1, 2, 6), np.float32)], ["chosen"])

    assert chosen.shape == (12, 3)


REFUSED: list[tuple[str, Case]] = [
    ("two of a type", ("Add", [floats(2), floats(2).astype(np.float16)], [], {})),
    ("shapes that fit", ("Add", [floats(2, 3), floats(2)], [], {})),
    ("two of a type", ("Add", [np.arange(3, dtype=np.uint8)] * 2, [], {})),
    ("stored ones of 1 and more", ("Div", [ints(1, 2)], [ints(-1)[0]], {})),
    ("stored ones of 1 and more", ("Div", [ints(1, 2)], [ints(3, 0)], {})),
    ("an integer divisor stored", ("Div", [ints(1, 2), ints(1, 2)], [], {})),
    ("casts no floats", ("Cast", [floats(2)], [], {"to": I32})),
    ("stored limits", ("Clip", [floats(2), floats(1)[0], floats(1)[0]], [], {})),
    ("floats and two limits, or bytes and one", ("Clip", [floats(2)], [np.float32(0)], {})),
    ("two of a type", ("Max", [np.arange(3, dtype=np.uint8)], [np.uint8(3)], {})),
    ("differ along its axis", ("Concat", [floats(2, 3), floats(3, 3)], [], {"axis": 1})),
    ("the axis 2", ("Concat", [floats(2, 3), floats(2, 3)], [], {"axis": 2})),
    ("fit its channels", ("Conv", [floats(1, 6, 9, 7)], [floats(4, 5, 3, 3)], {})),
    ("fit its channels", ("Conv", [floats(1, 6, 9, 7)], [floats(4, 3, 3, 3)], {"group": 3})),
    ("window that fits", ("Conv", [floats(1, 6, 2, 7)], [floats(4, 6, 3, 3)], {})),
    ("a bias for each", ("Conv", [floats(1, 6, 9, 7)], [floats(4, 6, 3, 3), floats(5)], {})),
    (
        "in two dimensions",
        ("Conv", [floats(1, 6, 9, 7)], [floats(4, 6, 3, 3)], {"kernel_shape": [3, 4]}),
    ),
    ("planes and kernels", ("Conv", [floats(6, 9, 7)], [floats(4, 6, 3, 3)], {})),
    ("steps above 0", ("QuantizeLinear", [floats(2)], [np.float32(0), np.uint8(0)], {})),
    ("steps above 0", ("QuantizeLinear", [floats(2)], [np.float32("nan"), np.uint8(0)], {})),
    (
        "steps stored",
        ("QuantizeLinear", [floats(2), np.asarray(np.float32(1))], [np.uint8(0)], {}),
    ),
    (
        "a step for each",
        ("QuantizeLinear", [floats(2, 3)], [np.ones(2, np.float32), np.zeros(2, np.uint8)], {}),
    ),
    ("bytes of floats", ("QuantizeLinear", [floats(2)], [np.float32(1), np.int32(0)], {})),
    ("floats of bytes", ("DequantizeLinear", [ints(1)], [np.float32(1), ints(0)[0]], {})),
    ("rows by integers", ("Gather", [floats(5), floats(2)], [], {})),
    ("places in its data", ("GatherND", [floats(3, 4), ints(0, 1, 2).reshape(1, 3)], [], {})),
    (
        "a value for each place",
        ("ScatterND", [floats(3, 4), ints(0, 1).reshape(1, 2), floats(2)], [], {}),
    ),
    ("matrices that fit", ("MatMul", [floats(2, 3), floats(4, 5)], [], {})),
    ("matrices that fit", ("MatMul", [floats(2, 3), floats(2, 3, 4)], [], {})),
    ("a bias for each column", ("Gemm", [floats(2, 3)], [floats(3, 4), floats(3)], {})),
    ("keeps all elements", ("Reshape", [floats(2, 3)], [ints(4, 2)], {})),
    ("keeps all elements", ("Reshape", [floats(2, 3)], [ints(-1, -1)], {})),
    ("keeps all elements", ("Reshape", [floats(2, 3)], [ints(-(2**63), 1)], {})),
    ("a shape stored", ("Reshape", [floats(2, 3), ints(3, 2)], [], {})),
    ("steps of 1", ("Slice", [floats(4, 9)], [ints(1), ints(5), ints(1), ints(-(2**63))], {})),
    ("axes that there are", ("Slice", [floats(4, 9)], [ints(1), ints(5), ints(2)], {})),
    ("a start and an end", ("Slice", [floats(4, 9)], [ints(1, 1), ints(5), ints(1)], {})),
    ("no more than there are", ("TopK", [floats(9)], [ints(10)], {"axis": 0})),
    ("no more than there are", ("TopK", [floats(9)], [ints(-1)], {"axis": 0})),
    ("order of all axes", ("Transpose", [floats(2, 3)], [], {"perm": [0, 0]})),
    ("a truth between two", ("Where", [floats(2), floats(2), floats(2)], [], {})),
    (
        "maps that there are",
        (
            "RoiAlign",
            [floats(2, 3, 8, 8), floats(2, 4)],
            [ints(0, 2)],
            {"sampling_ratio": 2, "spatial_scale": 0.1},
        ),
    ),
    (
        "planes (n, C, h, w) and a grid",
        (
            "GridSample",
            [floats(1, 3, 4, 5), floats(1, 6, 7, 3)],
            [],
            {"mode": "bilinear", "padding_mode": "zeros", "align_corners": 0},
        ),
    ),
    (
        "a window in two dimensions",
        ("MaxPool", [floats(1, 2, 8, 9)], [], {"kernel_shape": [2, 2], "pads": [2, 0, 0, 0]}),
    ),
]


@pytest.mark.parametrize(("reason", "case"), REFUSED, ids=lambda value: str(value)[:40])
def test_what_does_not_fit_is_refused(reason, case):
    pattern = reason.replace("(", r"\(").replace(")", r"\)")

    with pytest.raises(BundleError, match=f"has the {case[0]} node 'the_{case[0]}', .*{pattern}"):
        check(graph_of(case))


@pytest.mark.parametrize(
    "bad", [{"most": -1}, {"most": 3, "limit": 2}, {"most": 3, "score": float("inf")}]
)
def test_limits_of_suppression_that_mean_nothing_are_refused(bad):
    with pytest.raises(BundleError, match="the NonMaxSuppression node"):
        check(suppression(**bad))


def test_costs_are_counted():
    """By hand: a 3x3 convolution of 2 to 4 channels on 6x8 cells without padding gives 4x6."""
    model = graph_of(("Conv", [floats(1, 2, 6, 8)], [floats(4, 2, 3, 3)], {}), [floats(1, 4, 4, 6)])

    summary = check(model).summary

    assert summary.work == 4 * 4 * 6 * 2 * 3 * 3
    assert summary.all_bytes == 4 * (2 * 6 * 8 + 4 * 4 * 6)
    assert summary.largest_bytes == 8 * (4 * 6) * (2 * 3 * 3)  # what is under each window
