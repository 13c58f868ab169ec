"""Feature maps and scale fields as bytes between the INT8 subnets.

Where a subnet ends in DequantizeLinear and the next begins with QuantizeLinear, C channels
are passed as float32 needlessly: four times the memory that the warp has to move. Here both are
removed, with the same levels on all sides, so that the native warp reads bytes, rounds
once, and writes bytes of the same levels.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from dff_edge.bundle.levels import MIN_STEP, Levels, MapLevels
from dff_edge.bundle.reader import Bundle
from dff_edge.calibration.sampling.ranges import Range, finite_range
from dff_edge.calibration.sampling.samples import Arrays, Samples
from dff_edge.errors import CalibrationError
from dff_edge.runtime.engines.hand_crafted_flow import open_flow

_MOVES = ("Reshape", "Slice", "Transpose")  # operators that change no value


@dataclass(frozen=True, slots=True)
class MapRanges:
    """Smallest and largest value of features and scale field."""

    features: Range
    scale: Range


def find_map_ranges(bundle: Bundle, samples: Samples) -> MapRanges:
    """Run the fp32 networks on the samples.

    Features are those of key frames and propagated ones.

    Raises:
        CalibrationError: a value that is not finite.
    """
    features = _range(arrays["features"] for arrays in samples.task_inputs(bundle))
    return MapRanges(features, _range(_scales(bundle, samples)))


def byte_levels(ranges: MapRanges) -> MapLevels:
    """Choose levels of uint8 that cover the ranges.

    Those of the scale field hit 1 exactly, so that a scale of one changes no feature.
    """
    return MapLevels(
        features=levels_over(*ranges.features), scale=levels_over(*ranges.scale, hit_one=True)
    )


def levels_over(low: float, high: float, *, hit_one: bool = False) -> Levels:
    """Return levels for values from ``low`` to ``high`` that hit 0 exactly, for zero padding.

    For that they may end half a step inside the range.

    Args:
        low, high: the range; it is widened to contain 0, and 1 where that must be hit.
        hit_one: whether 1 is a multiple of the step, too; it is where the range is at most 255.
    """
    low, high = min(low, 0.0), max(high, 1.0 if hit_one else 0.0)
    step = (high - low) / 255
    if step < 2 * MIN_STEP:  # twice, for rounding to float32
        step = 1.0  # practically all zero
    if hit_one:
        # The smallest 1 / n that covers the range.
        step = 1 / max(1, math.floor(1 / step)) if step < 1 else float(math.ceil(step))
    return Levels(float(np.float32(step)), round(-low / step))


def fix_ranges(model: onnx.ModelProto, levels: Mapping[str, Levels]) -> dict[str, Levels]:
    """Assign the levels of graph inputs and outputs to the values that only move them.

    Levels of an input apply to the results of its Transpose, Reshape or Slice; those of an
    output to the values that it is moved from, and through a ReLU, which the quantiser removes.
    """
    makers = {name: node for node in model.graph.node for name in node.output}
    fixed: dict[str, Levels] = {}
    for value in model.graph.output:
        name = value.name
        if name in levels:
            fixed[name] = levels[name]
            while name in makers and makers[name].op_type in (*_MOVES, "Relu"):
                name = makers[name].input[0]
                fixed[name] = levels[value.name]
    for value in model.graph.input:
        if value.name in levels:
            for name in moved_values(model.graph, value.name):
                fixed[name] = levels[value.name]
    return fixed


def moved_values(graph: onnx.GraphProto, name: str) -> list[str]:
    """Return a value, and those that are its elements moved, in order."""
    names = [name]
    for node in graph.node:  # sorted
        if node.op_type in _MOVES and node.input[0] in names:
            names.append(node.output[0])
    return names


def rectified_outputs(model: onnx.ModelProto) -> set[str]:
    """Return the names of the outputs of a ReLU, moved or not."""
    makers = {name: node for node in model.graph.node for name in node.output}
    found = set()
    for value in model.graph.output:
        name = value.name
        while name in makers and makers[name].op_type in _MOVES:
            name = makers[name].input[0]
        if name in makers and makers[name].op_type == "Relu":
            found.add(value.name)
    return found


def cut_to_bytes(
    model: onnx.ModelProto, levels: Mapping[str, Levels], rectified: Collection[str] = ()
) -> None:
    """Make graph inputs and outputs uint8, in place.

    Args:
        model: quantised, its Q and DQ of these values having these levels.
        levels: by name of the input or output; names that the graph lacks are ignored.
        rectified: outputs whose ReLU the quantiser removed. That is right where the lowest
            byte means zero; elsewhere it is done on the bytes.

    Raises:
        CalibrationError: a value is not quantised at the border, or has other levels.
    """
    graph = model.graph
    for value in (*graph.input, *graph.output):
        if value.name not in levels:
            continue
        own = levels[value.name]
        if value in graph.input:
            _cut_input(graph, value.name, own)
        else:
            _cut_output(graph, value.name, own, is_rectified=value.name in rectified)
        value.type.tensor_type.elem_type = TensorProto.UINT8
    _drop_casts(graph)


def dequantize_inputs(model: onnx.ModelProto, levels: Mapping[str, Levels]) -> None:
    """Make inputs of a float graph uint8, in place: they are converted to floats when read.

    Args:
        model: one that computes nothing in integers.
        levels: by name of the input; names that the graph lacks are ignored.
    """
    graph = model.graph
    for value in graph.input:
        if value.name not in levels:
            continue
        own, inside = levels[value.name], f"{value.name}/float"
        _redirect(graph, value.name, inside)
        stored = {f"{inside}/step": np.float32(own.step), f"{inside}/zero": np.uint8(own.zero)}
        graph.initializer.extend(numpy_helper.from_array(v, name) for name, v in stored.items())
        node = helper.make_node("DequantizeLinear", [value.name, *stored], [inside], inside)
        graph.node.insert(0, node)
        value.type.tensor_type.elem_type = TensorProto.UINT8


def _cut_input(graph: onnx.GraphProto, name: str, levels: Levels) -> None:
    moved = set(moved_values(graph, name))
    readers = [n for n in graph.node if moved & set(n.input[:1]) and n.op_type not in _MOVES]
    for node in readers:
        _check(graph, node, "QuantizeLinear", name, levels)
        _redirect(graph, node.output[0], node.input[0])
        graph.node.remove(node)


def _cut_output(graph: onnx.GraphProto, name: str, levels: Levels, *, is_rectified: bool) -> None:
    for tensor in graph.initializer:
        if tensor.name == name:  # a stored scale of ones; not every parser accepts one as an output
            stored = levels.quantize(numpy_helper.to_array(tensor))
            tensor.CopyFrom(numpy_helper.from_array(stored, f"{name}_value"))
            graph.node.append(helper.make_node("Identity", [tensor.name], [name], name))
            return
    (node,) = (node for node in graph.node if name in node.output)
    _check(graph, node, "DequantizeLinear", name, levels)
    source = node.input[0]
    graph.node.remove(node)
    if is_rectified and levels.zero > 0:
        zero = numpy_helper.from_array(np.uint8(levels.zero), f"{name}_lowest")
        graph.initializer.append(zero)
        # Max would do it too, but does not support bytes in ONNX Runtime before 1.24.
        graph.node.append(helper.make_node("Clip", [source, zero.name], [name], name))
        return
    (maker,) = (other for other in graph.node if source in other.output)
    maker.output[0] = name
    _redirect(graph, source, name)


def _check(
    graph: onnx.GraphProto, node: onnx.NodeProto, operator: str, name: str, levels: Levels
) -> None:
    """Raise for another operator, or levels that differ by more than rounding; equalise them."""
    if node.op_type != operator:
        raise CalibrationError(
            f"'{name}' meets {node.op_type} at the border of the {graph.name} graph, expected "
            f"{operator}: the quantiser left it float."
        )
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    step, zero = tensors[node.input[1]], tensors[node.input[2]]
    found = Levels(float(numpy_helper.to_array(step)), int(numpy_helper.to_array(zero)))
    if not math.isclose(found.step, levels.step, rel_tol=1e-5) or found.zero != levels.zero:
        raise CalibrationError(f"'{name}' was quantised with {found}, expected {levels}.")
    step.CopyFrom(numpy_helper.from_array(np.float32(levels.step), step.name))


def _drop_casts(graph: onnx.GraphProto) -> None:
    """Use uint8 frames as bytes: remove Cast and Q of step 1 and zero 0."""
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    frames = {v.name for v in graph.input if v.type.tensor_type.elem_type == TensorProto.UINT8}
    makers = {name: node for node in graph.node for name in node.output}
    for node in [node for node in graph.node if node.op_type == "QuantizeLinear"]:
        cast = makers.get(node.input[0])
        if cast is None or cast.op_type != "Cast":
            continue
        source = cast.input[0]
        while source in makers and makers[source].op_type in (*_MOVES, "Concat"):
            source = makers[source].input[0]
        step, zero = (numpy_helper.to_array(tensors[name]) for name in node.input[1:])
        if source in frames and step == 1 and zero == 0:
            _redirect(graph, node.output[0], cast.input[0])
            graph.node.remove(node)
            if not any(cast.output[0] in other.input for other in graph.node):
                graph.node.remove(cast)


def _redirect(graph: onnx.GraphProto, name: str, to: str) -> None:
    for node in graph.node:
        node.input[:] = [to if read == name else read for read in node.input]


def _scales(bundle: Bundle, samples: Samples) -> Iterable[np.ndarray]:  # type: ignore[type-arg]
    with closing(open_flow(bundle, "fp32")) as flow:
        moved: Arrays = {name: spec.empty() for name, spec in flow.outputs.items()}
        for pair in samples.flow_inputs():
            flow.run(pair, moved)
            yield moved["scale"]


def _range(arrays: Iterable[np.ndarray]) -> Range:  # type: ignore[type-arg]
    low, high = math.inf, -math.inf
    for array in arrays:
        own = finite_range(float(array.min()), float(array.max()))  # min() would lose a NaN
        low, high = min(low, own[0]), max(high, own[1])
    return finite_range(low, high)
