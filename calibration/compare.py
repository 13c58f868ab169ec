"""Differences of a precision's graphs from fp32, and which are large enough to be faults."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dff_edge.bundle.levels import Levels, MapLevels
from dff_edge.bundle.reader import Bundle
from dff_edge.bundle.records import Parity
from dff_edge.calibration.sampling.samples import Arrays, Samples
from dff_edge.detection_matching import SAME_IOU, SURE_SCORE, detections_of, partners
from dff_edge.errors import CalibrationError
from dff_edge.names import Flavour, GraphName, Precision, Subnet
from dff_edge.runtime.engines.onnxruntime import OrtEngine

# A graph with a larger error is broken, not imprecise: measured are 0.02 to 0.2 for int8, and 1e-3
# to 0.02 for fp16.
_TOLERANCES: Mapping[Precision, float] = {"int8": 0.5, "fp16": 0.05}
# Of the mean over all cells; measured are at most 0.05 for int8 and 5e-4 for fp16.
_MEAN_TOLERANCES: Mapping[Precision, float] = {"int8": 0.25, "fp16": 0.005}
# Where nothing moves, flow has hardly a range: half a cell is no fault.
_LEAST_RANGES: Mapping[str, float] = {"flow": 1.0}  # feature cells
# Share of fp32's certain detections that may be missing. A tie that breaks otherwise loses a few.
_LOST_SHARES: Mapping[Precision, float] = {"int8": 0.5, "fp16": 0.1}
DETECTIONS = "detections"  # output name in records of detections
ANSWERS = "answers"  # output name in records of labels or boxes, all graphs one after the other

_LIKELY_CAUSES: Mapping[Precision, str] = {
    "int8": "Are the clips like what the model was trained on?",
    "fp16": "Does it compute values beyond 65504, where float16 overflows?",
}
_COMPARED_SAMPLES = 8


def inputs_of(subnet: Subnet, bundle: Bundle, samples: Samples) -> Iterable[Arrays]:
    """Return the inputs of the fp32 form of a subnet on the samples."""
    if subnet == "feature":
        return samples.feature_inputs()
    if subnet == "flow":
        return samples.flow_inputs()
    if subnet in ("task", "task_maps"):
        return samples.task_inputs(bundle)
    return samples.propagate_inputs(bundle)


class Compared(NamedTuple):
    """One output of a graph beside fp32's.

    Attributes:
        record: for the manifest.
        mean_error: of a map, the mean difference as a share of the largest value; None for
            detections.
    """

    record: Parity
    mean_error: float | None


def compare(
    bundle: Bundle,
    samples: Samples,
    flavour: Flavour,
    precision: Precision,
    graph_name: GraphName,
    graph: bytes,
    levels: MapLevels | None,
) -> list[Compared]:
    """Run a graph beside its fp32 form on some of the samples, both in ONNX Runtime.

    The measure is the largest difference, as a share of the largest value, of flow of one feature
    cell at least. For a graph that returns
    detections it is the share of those that score 0.5 and more in fp32 and are not matched: by a
    detection of their class that overlaps them by an IoU of 0.5.

    Args:
        bundle: holds the fp32 form.
        samples: the calibration samples.
        flavour, precision, graph_name: of the graph; not "propagate" for TensorRT, which
            ONNX Runtime cannot run.
        graph: the ONNX file.
        levels: of features and scale field, where they are quantised.

    Returns:
        One for each output, or one for the detections; none where fp32 has no certain ones.

    Raises:
        CalibrationError: the graph is broken.
    """
    subnet: Subnet = "propagate" if graph_name == "propagate_portable" else graph_name
    by_name = {} if levels is None else levels.by_name
    label = f"{precision} {subnet}{' (TensorRT)' if flavour == 'trt' else ''}"
    with (
        OrtEngine(bundle.graph_bytes("fp32", graph_name, flavour), name=f"fp32 {subnet}") as first,
        OrtEngine(graph, name=label) as engine,
    ):
        measure: _Errors | _Losses = _Losses() if "count" in engine.outputs else _Errors(by_name)
        expected = {name: spec.empty() for name, spec in first.outputs.items()}
        found = {name: spec.empty() for name, spec in engine.outputs.items()}
        for inputs in islice(inputs_of(subnet, bundle, samples), _COMPARED_SAMPLES):
            first.run(inputs, expected)
            given = {
                key: _stored(array, engine.inputs[key].dtype, by_name.get(key))
                for key, array in inputs.items()
            }
            engine.run(given, found)
            measure.add(expected, found)
    compared = []
    for output, largest, relative, mean in measure.results():
        tolerance = (_LOST_SHARES if output == DETECTIONS else _TOLERANCES)[precision]
        if not relative <= tolerance:  # negated: NaN fails
            raise CalibrationError(
                f"The {label} graph is broken: {measure.text(output, relative)}, expected at most "
                f"{tolerance}. The bundle was left as it was. {_LIKELY_CAUSES[precision]} "
                "--precision and --flavour of `dff-edge calibrate` make the others without it."
            )
        if mean is not None and not mean <= _MEAN_TOLERANCES[precision]:
            raise CalibrationError(
                f"The {label} graph is broken: '{output}' differs from fp32 by {mean:.3g} of its "
                f"range in the mean, expected at most {_MEAN_TOLERANCES[precision]}. The bundle "
                f"was left as it was. {_LIKELY_CAUSES[precision]}"
            )
        record = Parity(
            precision=precision,
            flavour=flavour,
            subnet=subnet,
            output=output,
            inputs=measure.inputs,
            tolerance=tolerance,
            max_abs_error=largest,
            relative_error=relative,
        )
        compared.append(Compared(record, mean))
    return compared


class _Errors:
    """The largest and the mean difference of each output."""

    inputs = "calibration frames, against fp32"

    def __init__(self, levels: Mapping[str, Levels]) -> None:
        self._levels = levels
        self._errors: dict[str, float] = {}
        self._sizes: dict[str, float] = {}
        self._means: dict[str, list[float]] = {}

    def add(self, expected: Arrays, found: Arrays) -> None:
        for key, array in expected.items():
            values = self._levels[key].dequantize(found[key]) if key in self._levels else found[key]
            # np.maximum keeps NaN, which max() would lose.
            errors = np.abs(values.astype(np.float64) - array)
            self._errors[key] = float(np.maximum(self._errors.get(key, 0.0), np.max(errors)))
            self._means.setdefault(key, []).append(float(np.mean(errors)))
            self._sizes[key] = max(self._sizes.get(key, 0.0), float(np.max(np.abs(array))))

    def results(self) -> Iterator[tuple[str, float, float, float | None]]:
        """Yield output, largest difference, and largest and mean one as shares of the range."""
        for key, error in self._errors.items():
            size = max(self._sizes[key], _LEAST_RANGES.get(key, 0.0)) or 1.0
            yield key, error, error / size, float(np.mean(self._means[key])) / size

    def text(self, output: str, relative: float) -> str:
        return f"'{output}' differs from fp32 by {relative:.3g} of its range"


class _Losses:
    """Number of fp32's certain detections that are not matched."""

    def __init__(self) -> None:
        self._sure = 0
        self._lost = 0
        self._apart = 0.0

    @property
    def inputs(self) -> str:
        return f"{self._sure} detections of fp32 on calibration frames"

    def add(self, expected: Arrays, found: Arrays) -> None:
        sure, own = detections_of(expected).above(SURE_SCORE), detections_of(found)
        again = partners(sure, own, min_iou=SAME_IOU)
        is_there = again >= 0
        self._sure += len(sure)
        self._lost += int((~is_there).sum())
        apart = np.abs(sure.scores[is_there] - own.scores[again[is_there]])
        self._apart = max(self._apart, float(apart.max(initial=0)))

    def results(self) -> Iterator[tuple[str, float, float, float | None]]:
        """Yield the detections, the largest difference of a score, and the share that is lost."""
        if self._sure:
            yield DETECTIONS, self._apart, self._lost / self._sure, None

    def text(self, output: str, relative: float) -> str:
        return f"{relative:.1%} of {self.inputs} are lost"


def _stored(array: NDArray[Any], dtype: np.dtype[Any], levels: Levels | None) -> NDArray[Any]:
    """Convert a float32 map to the type of the maps between subnets."""
    if levels is None:
        return array.astype(dtype, copy=False)
    return levels.quantize(array)
