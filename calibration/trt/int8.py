"""INT8 for TensorRT: the ``trt`` flavour of explicit Q/DQ.

int8 around zero everywhere, int8 weights with a scale for each output channel. The operators that
TensorRT fuses into integer kernels determine where the pairs stand:

- in front of every Conv and ConvTranspose, and nowhere between one and its activation: Conv,
  ReLU and the Q of its reader become one kernel with int8 at both ends;
- on the branch of an Add that no convolution of its own ends, or on the shortcut's convolution,
  so that the other convolution is fused with the sum;
- in front of AveragePool, which then reads bytes;
- feature maps and scale field are int8 where they enter and leave (``levels``), with nothing
  but Transpose between the pair and the border.

The products of scale field, scores and R-FCN's maps become Conv (``heads``), whose kernels support
any number of channels. Biases stay float, as TensorRT requires. The convolution that computes the
flow stays float and reads its maps before they are rounded. The weights of a ConvTranspose have one
step in all: NVIDIA's tools disagree on which of their axes, 0 or 1, TensorRT uses for the channels
(NVIDIA/TensorRT#2380, onnx/tensorflow-onnx#2134), and the wrong one leads to wrong results.

Measured once, while this was chosen (no command repeats it), with the shipped model on 8 clips of
20 frames, in ONNX Runtime: label pixels that equal those of fp32, and mean IoU, at distance 9,
where fp32 has 0.7397, still with a step for each output channel of a ConvTranspose:

    all of the above                      99.42%   0.7395
    the first convolution float           99.40%   0.7389
    transposed convolutions float         99.46%   0.7404
    no branch of a sum in int8            99.43%   0.7397
    the ``ort`` flavour                   99.63%   0.7397

Behind a ReLU int8 has a bit less than the uint8 of that flavour. One step in all for a
ConvTranspose costs 0.01% of the cells of the score maps (108 pairs at distances 5 to 9), and
changes the error of the flow from 0.01249 to 0.01250 cells.

Source: NVIDIA TensorRT documentation, "Working with Quantized Types", explicit quantization and
    Q/DQ layer-placement recommendations.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from dff_edge.bundle.levels import INT8, MIN_STEP, Levels, MapLevels
from dff_edge.calibration.ort.byte_maps import MapRanges, fix_ranges
from dff_edge.calibration.ort.heads import rewrite_product
from dff_edge.calibration.ort.int8 import flow_nodes, known_values
from dff_edge.calibration.sampling.pairs import LARGEST, Pairs
from dff_edge.calibration.sampling.ranges import Range, find_ranges
from dff_edge.calibration.shared_weights import copy_shared_weights
from dff_edge.onnx_graphs.detection import MAPS
from dff_edge.onnx_graphs.tidy import finish

_CONVOLUTIONS = ("Conv", "ConvTranspose")
_LARGEST_BIAS = 2**30  # of int32, with room for rounding


def quantize_symmetric(graph: bytes, samples: Iterable[dict[str, Any]], levels: MapLevels) -> bytes:
    """Quantise one fp32 graph for TensorRT.

    Args:
        graph: an ONNX file as ``export_bundle`` writes it.
        samples: inputs by name; they are read once and not kept.
        levels: of features and scale field, which become int8; their zeros are 0.

    Returns:
        The ONNX file with inputs and outputs of the same names and shapes.

    Raises:
        CalibrationError: a value that is not finite.
    """
    model = onnx.load_from_string(graph)
    for output in ("scale", "correction", "scores", *MAPS):
        model = rewrite_product(model, output)
    borders = levels.by_name
    convolutions = _convolutions(model)
    readers = _readers(model, convolutions)
    steps = _steps(model, readers, samples, borders)
    least = _least_steps(model, convolutions, steps)
    pairs = Pairs(model)
    for node in convolutions:
        by_channel = least[node.input[1]]
        if node.op_type == "Conv":
            pairs.store_weight(node, axis=0, least=by_channel)
        else:
            pairs.store_weight(node, axis=None, least=by_channel.max())
    for name, nodes in readers.items():
        pairs.add(name, steps[name], nodes)
    for name, own in borders.items():
        pairs.cut(name, own.step)
    # TensorRT does not need the copies, but ONNX Runtime compares the graphs with fp32.
    return finish(copy_shared_weights(pairs.finish()))


def symmetric_levels(ranges: MapRanges) -> MapLevels:
    """Choose levels of int8 that cover the ranges; a scale of one changes no feature."""
    return MapLevels(
        features=Levels(step_over(*ranges.features), 0, INT8),
        scale=Levels(step_over(*ranges.scale, hit_one=True), 0, INT8),
    )


def _convolutions(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    kept = set(flow_nodes(model))
    return [n for n in model.graph.node if n.op_type in _CONVOLUTIONS and n.name not in kept]


def _readers(
    model: onnx.ModelProto, convolutions: list[onnx.NodeProto]
) -> dict[str, list[onnx.NodeProto]]:
    """Return the nodes that read a value as int8, by value, in order."""
    makers = {name: node for node in model.graph.node for name in node.output}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        names: list[str] = []
        if node.op_type == "AveragePool" or node in convolutions:
            names = [node.input[0]]
        elif node.op_type == "Add" and all(name in makers for name in node.input):
            names = list(node.input)
            fused = next((n for n in names if makers[n].op_type in _CONVOLUTIONS), None)
            if fused is not None:
                names.remove(fused)
        for name in names:
            readers.setdefault(name, []).append(node)
    return readers


def _steps(
    model: onnx.ModelProto,
    readers: Mapping[str, object],
    samples: Iterable[dict[str, Any]],
    borders: Mapping[str, Levels],
) -> dict[str, float]:
    """Return each value's step: of the border that it moves to or from, else by its range."""
    steps = {name: own.step for name, own in fix_ranges(model, borders).items()}
    ranges: dict[str, Range] = {n: own.range for n, own in known_values(model).items()}
    unknown = [name for name in readers if name not in {**steps, **ranges}]
    ranges |= find_ranges(model, unknown, samples)
    return {**{name: step_over(*own) for name, own in ranges.items()}, **steps}


def _least_steps(
    model: onnx.ModelProto, convolutions: list[onnx.NodeProto], steps: Mapping[str, float]
) -> dict[str, NDArray[np.float64]]:
    """Return the smallest steps of each weight whose biases fit int32, one per output channel.

    ONNX Runtime stores a bias in steps of the input times those of the weight, and lets it overflow
    where these are close to zero, as for a channel that weight decay has almost erased.
    TensorRT's are floats.
    """
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    least: dict[str, NDArray[np.float64]] = {}
    for node in convolutions:
        has_bias = len(node.input) > 2
        bias = numpy_helper.to_array(tensors[node.input[2]]) if has_bias else np.zeros(1)
        own = np.abs(bias.astype(np.float64)) / (steps[node.input[0]] * _LARGEST_BIAS)
        least[node.input[1]] = np.maximum(least.get(node.input[1], 0.0), own)
    return least


def step_over(low: float, high: float, *, hit_one: bool = False) -> float:
    """Return the step of int8 around zero for values from ``low`` to ``high``.

    Args:
        low, high: the range.
        hit_one: whether 1 must be a multiple of the step; it is where the range is within 127.
    """
    largest = max(abs(low), abs(high), 1.0 if hit_one else 0.0)
    step = largest / LARGEST
    if step < 2 * MIN_STEP:
        return 1.0  # practically all zero
    if hit_one:
        # The smallest 1 / n that covers the range.
        step = 1 / max(1, math.floor(1 / step)) if step < 1 else float(math.ceil(step))
    return float(np.float32(step))
