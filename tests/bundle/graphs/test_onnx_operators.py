"""Rules for the nodes of each operator; tests/onnx_graphs/test_operators.py has the list."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, defs

from dff_edge.bundle.graphs.onnx_operators import OPERATORS
from dff_edge.bundle.graphs.onnx_reader import OPSETS
from dff_edge.errors import BundleError
from tests.bundle.graphs.onnx_graphs import check, model_of, node

FLOAT = TensorProto.FLOAT


def schema(operator: str, opset: int = OPSETS[-1]) -> defs.OpSchema:
    return defs.get_schema(operator, opset, "")


@pytest.mark.parametrize("operator", OPERATORS)
def test_an_operator_is_one_of_onnx_with_its_attributes_and_numbers_of_inputs(operator):
    own, theirs = OPERATORS[operator], schema(operator)

    assert set(own.attributes) <= set(theirs.attributes)
    assert theirs.min_input <= min(own.inputs) <= max(own.inputs) <= theirs.max_input
    assert theirs.min_output <= own.outputs <= theirs.max_output
    required = {name for name, attribute in theirs.attributes.items() if attribute.required}
    assert required <= set(own.required)


@pytest.mark.parametrize("opset", OPSETS)
def test_an_operator_is_in_every_set(opset):
    for operator in OPERATORS:
        assert set(OPERATORS[operator].required) <= set(schema(operator, opset).attributes)


@pytest.mark.parametrize("operator", OPERATORS)
def test_defaults_of_onnx_are_allowed(operator):
    """Who writes an attribute out writes nothing else."""
    elsewhere = {("RoiAlign", "sampling_ratio"), ("RoiAlign", "output_height")}
    for name, check_value in OPERATORS[operator].attributes.items():
        default = schema(operator).attributes[name].default_value
        kinds = {1: default.f, 2: default.i, 3: default.s}
        if default.type in kinds and (operator, name) not in elsewhere:
            assert check_value(kinds[default.type]), name


BAD = [
    ("Conv", {"strides": [0, 4]}),
    ("Conv", {"strides": [2]}),
    ("Conv", {"dilations": [-1, 1]}),
    ("Conv", {"kernel_shape": [1 << 40, 1]}),
    ("Conv", {"pads": [-1, 0, 0, 0]}),
    ("Conv", {"group": 0}),
    ("Conv", {"group": -(2**63)}),
    ("Conv", {"auto_pad": "SAME_UPPER"}),
    ("ConvTranspose", {"output_padding": [1 << 30, 0]}),
    ("MaxPool", {"kernel_shape": [2, 2], "ceil_mode": 1}),
    ("AveragePool", {"kernel_shape": [0, 2]}),
    ("GridSample", {"padding_mode": "zeros", "align_corners": 0, "mode": "bicubic"}),
    ("RoiAlign", {"sampling_ratio": 0}),  # as many samples as pixels
    ("RoiAlign", {"sampling_ratio": 1 << 20}),
    ("RoiAlign", {"sampling_ratio": 2, "output_height": 1 << 20}),
    ("RoiAlign", {"sampling_ratio": 2, "spatial_scale": float("nan")}),
    ("TopK", {"axis": 1}),
    ("Cast", {"to": TensorProto.STRING}),
    ("Cast", {"to": TensorProto.INT64}),
    ("Gather", {"axis": 1}),
    ("GatherND", {"batch_dims": 1}),
    ("ScatterND", {"reduction": "add"}),
    ("ReduceSum", {"keepdims": 0}),
    ("Transpose", {"perm": [0, 9]}),
    ("LeakyRelu", {"alpha": float("inf")}),
    ("Gemm", {"transA": 1}),
    ("Softmax", {"axis": 1 << 40}),
]


@pytest.mark.parametrize(("operator", "attributes"), BAD, ids=str)
def test_attributes_out_of_bounds_are_refused(operator, attributes):
    own = OPERATORS[operator]
    names = ["x"] * min(own.inputs)
    outputs = ["y", "z"][: own.outputs]
    bad = list(attributes)[-1]

    with pytest.raises(BundleError, match=f"has {bad} .* in the {operator} node .* out of bounds"):
        check(model_of(node(operator, names, outputs, **attributes)))


@pytest.mark.parametrize(("name", "value"), [("output_shape", [1, 1]), ("trick", 3)])
def test_attributes_that_nothing_writes_are_refused(name, value):
    bad = node("ConvTranspose", ["x", "x"], **{name: value})

    with pytest.raises(BundleError, match=f"ConvTranspose node .* with an attribute '{name}'"):
        check(model_of(bad))


def test_an_attribute_of_another_type_is_refused():
    with pytest.raises(BundleError, match="has axis 1.0 in the Concat node"):
        check(model_of(node("Concat", ["x", "x"], axis=1.0)))


@pytest.mark.parametrize("operator", ["Cast", "Transpose", "Concat", "GridSample"])
def test_attributes_that_are_left_out_are_told(operator):
    names = ["x"] * min(OPERATORS[operator].inputs)

    with pytest.raises(BundleError, match=f"the {operator} node .* without its attribute"):
        check(model_of(node(operator, names)))


def test_other_numbers_of_inputs_and_outputs_are_refused():
    with pytest.raises(
        BundleError, match="Relu node .* with 2 inputs and 1 outputs, expected 1 an"
    ):
        check(model_of(node("Relu", ["x", "x"])))
    with pytest.raises(BundleError, match="MaxPool node .* with 1 inputs and 2 outputs, expected"):
        check(model_of(node("MaxPool", ["x"], ["y", "indices"], kernel_shape=[2, 2])))


def test_an_input_that_is_left_out_is_refused():
    stored = {"high": np.float32(6)}

    with pytest.raises(BundleError, match="Clip node .* that reads '', which nothing before it"):
        check(model_of(node("Clip", ["x", "", "high"]), stored=stored))


@pytest.mark.parametrize("operator", [n for n, own in OPERATORS.items() if not own.tensorrt])
def test_operators_of_onnxruntime_alone_are_refused_for_tensorrt(operator):
    names = ["x"] * min(OPERATORS[operator].inputs)
    model = model_of(node(operator, names, ["y", "z"][: OPERATORS[operator].outputs]))

    with pytest.raises(BundleError, match=f"the {operator} node .* no graph for TensorRT has"):
        check(model, flavour="trt")
