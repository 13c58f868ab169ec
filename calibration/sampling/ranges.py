"""Ranges of values inside a float graph, reduced where they are computed."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from dff_edge.errors import CalibrationError
from dff_edge.runtime.engines.onnxruntime import OrtEngine

Range = tuple[float, float]

# The sum shows a NaN, which the extremes of ONNX Runtime ignore.
_REDUCTIONS = ("ReduceMin", "ReduceMax", "ReduceSum")


def find_ranges(
    model: onnx.ModelProto, names: Collection[str], samples: Iterable[dict[str, Any]]
) -> dict[str, Range]:
    """Run a graph on samples, and return the smallest and largest number of some of its values.

    Args:
        model: float32; not changed. Its own outputs are not computed unless a value needs them.
        names: values in it.
        samples: inputs by name; they are read once and not kept.

    Raises:
        CalibrationError: a value that is not finite.
    """
    if not names:
        return {}
    reducing = onnx.ModelProto()
    reducing.CopyFrom(model)
    del reducing.graph.output[:], reducing.graph.value_info[:]
    for index, name in enumerate(names):
        for operator in _REDUCTIONS:
            output = f"{operator}/{index}"
            reducing.graph.node.append(helper.make_node(operator, [name], [output], keepdims=0))
            reducing.graph.output.append(
                helper.make_tensor_value_info(output, TensorProto.FLOAT, [])
            )
    with OrtEngine(reducing.SerializeToString(), name=f"reduced {model.graph.name}") as engine:
        found = {name: spec.empty() for name, spec in engine.outputs.items()}
        lowest = np.full(len(names), np.inf)
        highest = np.full(len(names), -np.inf)
        for inputs in samples:
            engine.run(inputs, found)
            for index in range(len(names)):
                low, high, total = (float(found[f"{name}/{index}"]) for name in _REDUCTIONS)
                if math.isnan(total):
                    low = high = total
                finite_range(low, high)
                lowest[index] = min(lowest[index], low)
                highest[index] = max(highest[index], high)
    return {
        name: finite_range(float(low), float(high))  # infinite where there were no samples
        for name, low, high in zip(names, lowest, highest, strict=True)
    }


def finite_range(low: float, high: float) -> Range:
    """Return a measured range.

    Raises:
        CalibrationError: it is not finite.
    """
    if not (math.isfinite(low) and math.isfinite(high)):
        raise CalibrationError(
            f"The fp32 networks compute values from {low} to {high} on the calibration frames, "
            "expected finite ones. Was the checkpoint's training broken off by an overflow?"
        )
    return low, high
