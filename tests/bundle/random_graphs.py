"""Graphs of allowed operators, at random, whose shapes fit."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from dff_edge.bundle.graphs.onnx_file import Node
from dff_edge.bundle.graphs.onnx_operators import OPERATORS
from dff_edge.bundle.graphs.onnx_values import Value
from dff_edge.bundle.graphs.protobuf import WireError
from dff_edge.bundle.reader import Bundle
from tests.bundle.bundles import IR_VERSION, OPSET
from tests.bundle.damaged_bundles import FLOATS

LARGEST_VALUE = 1 << 22  # elements that a made value may have
# Of what an FP32 graph may not have.
_OTHER_PRECISIONS = ("QuantizeLinear", "DequantizeLinear")


class Builder:
    """A graph of allowed operators whose shapes fit, from one input to one output, both float32."""

    def __init__(self, rng: random.Random, given: tuple[int, ...], wanted: tuple[int, ...]) -> None:
        self._rng = rng
        self._nodes: list[onnx.NodeProto] = []
        self._stored: dict[str, np.ndarray] = {}  # type: ignore[type-arg]
        self._values = {"features": Value(np.dtype(np.float32), given)}
        self._wanted = wanted
        self._given = given

    def build(self, count: int) -> bytes:
        """Return the file of a graph of about so many nodes."""
        for _ in range(20 * count):
            self._try_node()
            if len(self._nodes) >= count:
                break
        self._finish()
        spec = helper.make_tensor_value_info
        graph = helper.make_graph(
            self._nodes,
            "task",
            [spec("features", TensorProto.FLOAT, self._given)],
            [spec("scores", TensorProto.FLOAT, self._wanted)],
            [numpy_helper.from_array(array, name) for name, array in self._stored.items()],
        )
        imports = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=imports, ir_version=IR_VERSION)
        return model.SerializeToString()

    def _try_node(self) -> None:
        """Add a node where its operator takes what is there."""
        rng = self._rng
        operator = rng.choice([name for name in OPERATORS if name not in _OTHER_PRECISIONS])
        count = rng.choice(OPERATORS[operator].inputs[:3])
        inputs = [self._operand(operator, at) for at in range(count)]
        if inputs and rng.random() < 0.8:
            inputs[0] = rng.choice([n for n, v in self._values.items() if not v.is_stored])
            fitting = self._fitting(operator, self._values[inputs[0]].shape)
            inputs[1:] = [self._keep(array) for array in fitting] or inputs[1:]
        self._add(operator, inputs, self._attributes(operator))

    def _fitting(self, operator: str, shape: tuple[int, ...]) -> list[Any]:
        """Stored operands that fit behind a first one of this shape; none where any may."""
        rng, size = self._rng, int(np.prod(shape))
        numbers = np.random.default_rng(rng.getrandbits(32))
        kernels, side = rng.choice([1, 3, 8, 64]), rng.choice([1, 2, 3, 5])
        last = shape[-1] if shape else 1
        if operator == "Conv" and len(shape) == 4:
            return [numbers.normal(size=(kernels, shape[1], side, side)).astype(np.float32)]
        if operator == "ConvTranspose" and len(shape) == 4:
            return [numbers.normal(size=(shape[1], kernels, side, side)).astype(np.float32)]
        if operator == "MatMul":
            return [numbers.normal(size=(last, kernels)).astype(np.float32)]
        if operator == "Gemm":
            weight = numbers.normal(size=(last, kernels)).astype(np.float32)
            return [weight, np.ones(kernels, np.float32)]
        if operator == "Reshape":
            part = rng.choice([n for n in (1, 2, 4, 8, 64) if size % n == 0])
            return [np.array(rng.choice([[-1], [part, -1], [1, part, 1, -1], [-1, 4]]), np.int64)]
        if operator == "Slice" and shape:
            axis = rng.randrange(len(shape))
            start, end = rng.choice([(0, 1), (-3, 1000), (1, 3), (0, 2**62), (-(2**63), 2)])
            return [np.array([number], np.int64) for number in (start, end, axis)]
        if operator == "TopK":
            return [np.array([rng.randint(1, max(1, last))], np.int64)]
        if operator == "Gather" and shape:
            return [numbers.integers(-shape[0] - 1, shape[0] + 1, 5)]
        if operator == "RoiAlign":
            boxes = numbers.normal(size=(6, 4)).astype(np.float32) * rng.choice([1, 100, 1e30])
            return [boxes, np.zeros(6, np.int64)]
        if operator == "NonMaxSuppression" and len(shape) == 3:
            scores = numbers.normal(size=(1, 3, shape[1])).astype(np.float32)
            limits = [np.array([0.5], np.float32), np.array([-1], np.float32)]
            return [scores, np.array([rng.choice([0, 1, 100, 2**62])], np.int64), *limits]
        if operator == "GridSample" and len(shape) == 4:
            grid = numbers.normal(size=(shape[0], 5, 6, 2)).astype(np.float32)
            return [grid * np.float32(rng.choice([1, 1e30, float("nan")]))]
        if operator == "Clip":
            return [np.float32(rng.choice([-1, 5])), np.float32(rng.choice([2, float("inf")]))]
        return []

    def _keep(self, array: Any) -> str:
        name = f"s{len(self._values)}"
        self._stored[name] = np.asarray(array)
        self._values[name] = Value(
            self._stored[name].dtype, self._stored[name].shape, True, self._stored[name]
        )
        return name

    def _add(self, operator: str, inputs: list[str], attributes: dict[str, Any]) -> str | None:
        outputs = tuple(f"v{len(self._values)}_{i}" for i in range(OPERATORS[operator].outputs))
        made = helper.make_node(operator, inputs, outputs, outputs[0], **attributes)
        known = {a.name: helper.get_attribute_value(a) for a in made.attribute}
        told = {k: tuple(v) if isinstance(v, list) else v for k, v in known.items()}
        node = Node(operator, "", outputs[0], tuple(inputs), outputs, told)
        try:
            outcome = OPERATORS[operator].rule(node, [self._values[name] for name in inputs])
        except (WireError, AssertionError, KeyError, IndexError):
            return None
        sizes = [np.prod(value.shape) for value in outcome.outputs]
        has_rows = any(self._values[name].is_most for name in inputs)
        is_refused = 0 in sizes or (has_rows and not OPERATORS[operator].rows)
        if max(sizes) > LARGEST_VALUE or (is_refused and self._rng.random() < 0.99):
            return None
        self._nodes.append(made)
        self._values.update(zip(outputs, outcome.outputs, strict=True))
        return outputs[0]

    def _operand(self, operator: str, at: int) -> str:
        rng = self._rng
        if at in OPERATORS[operator].kept or rng.random() < 0.3:
            return self._store(rng)
        return rng.choice(list(self._values))

    def _store(self, rng: random.Random) -> str:
        """Store a tensor that some operator may want."""
        rank = rng.choice([0, 1, 1, 2, 4])
        shape = tuple(rng.choice([1, 1, 2, 3, 4, 8]) for _ in range(rank))
        kind = rng.choice(["f", "f", "i", "u", "b"])
        array: np.ndarray  # type: ignore[type-arg]
        if kind == "f":
            array = np.array(np.random.default_rng(rng.getrandbits(32)).normal(size=shape), "f4")
            if rng.random() < 0.2:
                array[...] = rng.choice(FLOATS)
            if rng.random() < 0.3:
                array = np.abs(array) + np.float32(0.01)
        elif kind == "i":
            array = np.array(
                np.random.default_rng(rng.getrandbits(32)).integers(-1, 9, shape), "i8"
            )
        else:
            array = np.zeros(shape, np.uint8 if kind == "u" else np.int8)
        return self._keep(array)

    def _attributes(self, operator: str) -> dict[str, Any]:
        rng = self._rng
        side = rng.choice([1, 1, 2, 3])
        some: dict[str, dict[str, Any]] = {
            "AveragePool": {"kernel_shape": [side, side]},
            "MaxPool": {"kernel_shape": [side, side], "strides": [rng.choice([1, 2])] * 2},
            "Cast": {"to": rng.choice([1, 6])},
            "Concat": {"axis": rng.choice([0, 1, 2, 3, -1])},
            "Conv": {"pads": [rng.choice([0, 1, 2, 40])] * 4, "strides": [side, side]},
            "ConvTranspose": {"strides": [rng.choice([1, 2, 64])] * 2},
            "GridSample": {"mode": "bilinear", "padding_mode": "zeros", "align_corners": 0},
            "LeakyRelu": {"alpha": rng.choice([0.1, -1e38])},
            "ReduceSum": {"keepdims": 1},
            "RoiAlign": {"sampling_ratio": 2, "spatial_scale": rng.choice([0.0625, 1e30])},
            "Softmax": {"axis": rng.choice([0, 1, -1])},
            "TopK": {"axis": 0},
            "Transpose": {"perm": rng.sample(range(4), 4)},
        }
        return some.get(operator, {})

    def _finish(self) -> None:
        """Make the output of the last floats: their first numbers, or zeros behind them."""
        floats = [
            name
            for name, value in self._values.items()
            if value.dtype == np.float32 and not (value.is_stored or value.is_most)
        ]
        name, wanted = floats[-1], int(np.prod(self._wanted))
        held = int(np.prod(self._values[name].shape))
        flat = self._shaped(name, [held])
        if held < wanted:
            self._stored["rest"] = np.zeros(wanted - held, np.float32)
            self._values["rest"] = Value(
                np.dtype(np.float32), (wanted - held,), True, self._stored["rest"]
            )
            flat = str(self._add("Concat", [flat, "rest"], {"axis": 0}))
        elif held > wanted:
            ends = [self._number("from", [0]), self._number("to", [wanted])]
            flat = str(self._add("Slice", [flat, *ends, self._number("axes", [0])], {}))
        last = self._shaped(flat, list(self._wanted))
        self._nodes[-1].output[0] = "scores"
        assert last

    def _shaped(self, name: str, shape: list[int]) -> str:
        return str(self._add("Reshape", [name, self._number(f"shape_of_{name}", shape)], {}))

    def _number(self, name: str, values: list[int]) -> str:
        self._stored[name] = np.array(values, np.int64)
        self._values[name] = Value(np.dtype(np.int64), (len(values),), True, self._stored[name])
        return name


def task_by_chance(bundle: Bundle, rng: random.Random) -> bytes:
    """Return a task graph for a bundle of segmentation."""
    contract = bundle.manifest.contract("fp32", "task")
    builder = Builder(rng, contract.inputs["features"].shape, contract.outputs["scores"].shape)
    return builder.build(rng.choice([1, 3, 10, 60]))
