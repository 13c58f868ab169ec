"""Whether engines compute what their graphs say, and how far that is from FP32.

Two references, both by ONNX Runtime on the CPU, on the same frames. The graphs that the engines
were built from: engines that label pixels otherwise than these were built wrong, and are refused.
And the bundle's FP32 graphs: how far an engine's outputs and the labels are from theirs is told,
for it is what precision costs. That is calibration's matter, and depends on frames and model: an
INT8 network labels many pixels otherwise on frames of a kind that it was not made for.

Each engine is given the FP32 reference's inputs, so that errors do not add up and each is told of
its own. Then the scheduler runs all of them in their order on the device, for the label maps.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dff_edge.runtime.bundle import Bundle
from dff_edge.runtime.contract import Flavour, GraphName, Levels, MapLevels, Precision, Subnet
from dff_edge.runtime.cpu import CpuDevice
from dff_edge.runtime.device import Device
from dff_edge.runtime.engine import Engine, OrtEngine, TensorSpec
from dff_edge.runtime.errors import EngineError, SourceError
from dff_edge.runtime.frames import Frame, LabelMap
from dff_edge.runtime.resize import FrameResizer, check_image
from dff_edge.runtime.scheduler import Scheduler
from dff_edge.runtime.sources import open_source
from dff_edge.runtime.subnets import Subnets
from dff_edge.runtime.uri import hide_credentials

FRAMES = 12
KEY_EVERY = 4  # of these frames: three quarters are propagated, over one to three frames

# Share of pixels that must be labelled as by the graphs. Pixels on the borders between classes
# change with the last bit of the scores: FP32 of another library moves less than one in a thousand.
# FP16 has 2**13 times coarser numbers, and sums in another order. In INT8 a value that lies between
# two levels is rounded to the other one by another order of sums, and layers behind see a step.
FLOORS: dict[Precision, float] = {"fp32": 0.999, "fp16": 0.99, "int8": 0.95}

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Reference:
    """What the FP32 graphs give for some frames.

    Attributes:
        frames: the frames, numbered from 0.
        inputs: what each graph was given, one for each of its runs, by graph.
        outputs: what it gave.
        labels: a label map of each frame.
    """

    frames: tuple[Frame, ...]
    inputs: dict[str, list[Arrays]]
    outputs: dict[str, list[Arrays]]
    labels: tuple[LabelMap, ...]


def draw_frames(source: str) -> tuple[Frame, ...]:
    """The first frames of a source, of one size, numbered from 0.

    Raises:
        SourceError: when it gives fewer than two, so that nothing could be propagated.
        ConfigError: when it is none.
    """
    frames: list[Frame] = []
    with open_source(source) as opened:
        for frame in itertools.islice(opened, FRAMES):
            image = check_image(frame.image)
            if frames and image.shape != frames[0].image.shape:
                break
            frames.append(Frame(image.copy(), len(frames), len(frames) / 30))
    if len(frames) < 2:
        raise SourceError(
            f"{hide_credentials(source)} gave {len(frames)} frames, expected {FRAMES} to check "
            "with."
        )
    return tuple(frames)


def compute_reference(bundle: Bundle, frames: Sequence[Frame]) -> Reference:
    """Run the FP32 graphs on frames.

    Raises:
        EngineError: when they do not load.
        MissingDependencyError: when onnxruntime is not installed.
    """
    resizer = FrameResizer(bundle.manifest.frame_size)
    inputs: dict[str, list[Arrays]] = {}
    outputs: dict[str, list[Arrays]] = {}
    with ExitStack() as stack:
        engines: dict[str, OrtEngine] = {}
        graphs: tuple[Subnet, ...] = ("feature", "flow", "task", "propagate")
        for graph in graphs:
            data = bundle.graph_bytes("fp32", graph)
            engines[graph] = stack.enter_context(OrtEngine(data, name=f"fp32 {graph}"))

        def run(graph: str, given: Arrays) -> Arrays:
            taken = {name: spec.empty() for name, spec in engines[graph].outputs.items()}
            engines[graph].run(given, taken)
            inputs.setdefault(graph, []).append(given)
            outputs.setdefault(graph, []).append(taken)
            return taken

        features: NDArray[Any] | None = None
        key_half: NDArray[Any] | None = None
        for frame in frames:
            half = engines["flow"].inputs["frame_half"].empty()
            resizer.half(frame.image, half)
            if _is_key(frame) or features is None or key_half is None:
                full = engines["feature"].inputs["frame"].empty()
                resizer.full(frame.image, full)
                features, key_half = run("feature", {"frame": full})["features"], half
                run("task", {"features": features})
            else:
                moved = run("flow", {"key_half": key_half, "frame_half": half})
                run("propagate", {"features": features, **moved})
        subnets = Subnets(
            engines["feature"], engines["flow"], engines["task"], propagate=engines["propagate"]
        )
        labels = label_maps(CpuDevice(), subnets, frames)
    return Reference(tuple(frames), inputs, outputs, labels)


def relative_errors(
    engine: Engine, graph: str, reference: Reference, levels: MapLevels | None
) -> dict[str, float]:
    """How far an engine's outputs are from the reference's, for the reference's inputs.

    Args:
        engine: takes and gives maps of its own precision.
        graph: the name of its graph.
        reference: what FP32 gives.
        levels: of features and scale field, where they are bytes.

    Returns:
        By output, ``|got - expected| / |expected|`` with Euclidean norms over all runs.

    Raises:
        EngineError: when an output is not finite, or the engine fails.
    """
    name = "propagate" if graph == "propagate_portable" else graph
    wrong = dict.fromkeys(engine.outputs, 0.0)
    right = dict.fromkeys(engine.outputs, 0.0)
    taken = {output: spec.empty() for output, spec in engine.outputs.items()}
    for given, expected in zip(reference.inputs[name], reference.outputs[name], strict=True):
        fitting = {
            key: _encode(given[key], spec, _levels_of(key, levels))
            for key, spec in engine.inputs.items()
        }
        engine.run(fitting, taken)
        for key, array in taken.items():
            got = _decode(array, _levels_of(key, levels))
            if not np.isfinite(got).all():
                raise EngineError(
                    f"the {engine.name} engine gave values that are not finite for '{key}', where "
                    "the FP32 graph gives finite ones. In fp16 it is an overflow: take fp32."
                )
            wrong[key] += float(np.square(got - expected[key]).sum(dtype=np.float64))
            right[key] += float(np.square(expected[key]).sum(dtype=np.float64))
    # Nothing but zeros expected: any error is all wrong.
    return {k: (wrong[k] / right[k]) ** 0.5 if right[k] else float(wrong[k] > 0) for k in taken}


def graph_labels(
    bundle: Bundle, precision: Precision, flavour: Flavour, frames: Sequence[Frame]
) -> tuple[LabelMap, ...]:
    """Label maps by the graphs of a precision themselves, in ONNX Runtime on the CPU.

    Raises:
        EngineError: when they do not load.
        MissingDependencyError: when onnxruntime is not installed.
    """
    with ExitStack() as stack:

        def opened(graph: GraphName) -> OrtEngine:
            data = bundle.graph_bytes(precision, graph, flavour)
            return stack.enter_context(OrtEngine(data, name=f"{precision} {graph}"))

        subnets = Subnets(
            opened("feature"),
            opened("flow"),
            opened("task"),
            bundle.manifest.map_levels(precision, flavour),
            # ONNX Runtime does not know TensorRT's plugin, nor the CPU's warp TensorRT's maps.
            propagate=opened("propagate_portable") if flavour == "trt" else None,
        )
        return label_maps(CpuDevice(), subnets, frames)


def agreement(labels: Sequence[LabelMap], expected: Sequence[LabelMap]) -> float:
    """Share of pixels that are labelled alike, 0..1.

    Example:
        >>> agreement([np.uint8([[0, 1, 2, 3]])], [np.uint8([[0, 1, 2, 0]])])
        0.75
    """
    return float(np.mean([got == wanted for got, wanted in zip(labels, expected, strict=True)]))


def label_maps(device: Device, subnets: Subnets, frames: Sequence[Frame]) -> tuple[LabelMap, ...]:
    """A label map of each frame, at its size; every fourth frame is a key frame."""
    scheduler = Scheduler(device, subnets, depth=1)
    try:
        labels = []
        for frame in frames:
            scheduler.submit(frame, is_key=_is_key(frame))
            labels.append(scheduler.collect().labels)
        return tuple(labels)
    finally:
        scheduler.close()


def _is_key(frame: Frame) -> bool:
    return frame.index % KEY_EVERY == 0


def _levels_of(name: str, levels: MapLevels | None) -> Levels | None:
    by_name: Mapping[str, Levels] = (
        {} if levels is None else {"features": levels.features, "scale": levels.scale}
    )
    return by_name.get(name)


def _encode(array: NDArray[Any], spec: TensorSpec, levels: Levels | None) -> NDArray[Any]:
    """Values as an engine takes them."""
    if levels is None:
        return np.ascontiguousarray(array, spec.dtype)
    ends = np.iinfo(spec.dtype)  # uint8, or int8 around zero
    steps = np.rint(array / np.float32(levels.step)) + levels.zero
    return np.clip(steps, ends.min, ends.max).astype(spec.dtype)


def _decode(array: NDArray[Any], levels: Levels | None) -> NDArray[np.float32]:
    """Values of what an engine gave."""
    values: NDArray[np.float32] = array.astype(np.float32)
    if levels is not None:
        values = (values - np.float32(levels.zero)) * np.float32(levels.step)
    return values
