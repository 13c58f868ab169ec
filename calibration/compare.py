"""How far the graphs of a precision are from fp32, and which are too far to be right."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dff_edge.calibration.pairs import to_int8
from dff_edge.calibration.samples import Arrays, Samples
from dff_edge.runtime.bundle import Bundle
from dff_edge.runtime.contract import Flavour, Levels, MapLevels, Precision, Subnet
from dff_edge.runtime.engine import OrtEngine
from dff_edge.runtime.errors import CalibrationError
from dff_edge.runtime.manifest_records import Parity

# A graph with a larger error is broken, not coarse: measured are 0.02 to 0.15 for int8 and
# 1e-3 for fp16.
_TOLERANCES: Mapping[Precision, float] = {"int8": 0.5, "fp16": 0.02}
_LIKELY_CAUSES: Mapping[Precision, str] = {
    "int8": "Are the clips like what the model was trained on?",
    "fp16": "Does it compute values beyond 65504, where float16 overflows?",
}
_COMPARED_SAMPLES = 8


def inputs_of(subnet: Subnet, bundle: Bundle, samples: Samples) -> Iterable[Arrays]:
    """What the fp32 form of a subnet reads on the samples."""
    if subnet == "feature":
        return samples.feature_inputs()
    if subnet == "flow":
        return samples.flow_inputs()
    if subnet == "task":
        return samples.task_inputs(bundle)
    return samples.propagate_inputs(bundle)


def compare(
    bundle: Bundle,
    samples: Samples,
    flavour: Flavour,
    precision: Precision,
    subnet: Subnet,
    graph: bytes,
    levels: MapLevels | None,
) -> list[Parity]:
    """Run a graph beside its fp32 form on some of the samples, both in ONNX Runtime.

    Args:
        bundle: holds the fp32 form.
        samples: what it was calibrated on.
        flavour, precision, subnet: what the graph is.
        graph: the ONNX file; of "propagate" for TensorRT the portable form.
        levels: of features and scale field, where they are bytes.

    Returns:
        One record for each output.

    Raises:
        CalibrationError: the graph is broken.
    """
    by_name = {} if levels is None else {"features": levels.features, "scale": levels.scale}
    name = f"{precision} {subnet}{' (TensorRT)' if flavour == 'trt' else ''}"
    tolerance = _TOLERANCES[precision]
    records: list[Parity] = []
    with (
        OrtEngine(bundle.graph_bytes("fp32", subnet), name=f"fp32 {subnet}") as reference,
        OrtEngine(graph, name=name) as engine,
    ):
        expected = {name: spec.empty() for name, spec in reference.outputs.items()}
        found = {name: spec.empty() for name, spec in engine.outputs.items()}
        errors, sizes = dict.fromkeys(expected, 0.0), dict.fromkeys(expected, 0.0)
        for inputs in islice(inputs_of(subnet, bundle, samples), _COMPARED_SAMPLES):
            reference.run(inputs, expected)
            given = {
                key: _stored(array, engine.inputs[key].dtype, by_name.get(key))
                for key, array in inputs.items()
            }
            engine.run(given, found)
            for key, array in expected.items():
                values = by_name[key].values(found[key]) if key in by_name else found[key]
                # np.maximum keeps NaN, which max() would lose.
                error = np.max(np.abs(values.astype(np.float64) - array))
                errors[key] = float(np.maximum(errors[key], error))
                sizes[key] = max(sizes[key], float(np.max(np.abs(array))))
    for key, error in errors.items():
        relative = error / sizes[key] if sizes[key] > 0 else error
        if not relative <= tolerance:  # negated: NaN fails
            raise CalibrationError(
                f"The {name} graph is broken: '{key}' differs from fp32 by {relative:.3g} of its "
                f"range, expected at most {tolerance}. The bundle was left as it was. "
                f"{_LIKELY_CAUSES[precision]} --precision and --flavour of `dff-edge calibrate` "
                "make the others without it."
            )
        records.append(
            Parity(
                precision=precision,
                flavour=flavour,
                subnet=subnet,
                output=key,
                inputs="calibration frames, against fp32",
                tolerance=tolerance,
                max_abs_error=error,
                relative_error=relative,
            )
        )
    return records


def _stored(array: NDArray[Any], dtype: np.dtype[Any], levels: Levels | None) -> NDArray[Any]:
    """A float32 map in the type that it travels in."""
    if levels is None:
        return array.astype(dtype, copy=False)
    return to_int8(array, levels.step) if dtype == np.int8 else levels.bytes(array)
