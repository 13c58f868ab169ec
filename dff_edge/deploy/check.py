"""Check of engines against their graphs, and measurement of their difference from FP32.

There are two references, both by ONNX Runtime on the CPU, on the same frames. The graphs that the
engines were built from: engines with other results than these were built wrong, and are refused.
And the bundle's FP32 graphs: the difference of an engine's outputs and results from theirs is
reported, as the cost of the precision. That depends on calibration, frames and model: an INT8
network has other results on frames of a kind that it was not calibrated on.

Each engine gets the FP32 reference's inputs, so that errors do not add up and each has an error of
its own. Then the scheduler runs all of them in order on the device, for the results.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dff_edge.bundle.levels import MapLevels
from dff_edge.bundle.reader import Bundle
from dff_edge.errors import EngineError, SourceError
from dff_edge.frames import Frame
from dff_edge.hiding import hide_credentials
from dff_edge.names import Flavour, Precision
from dff_edge.runtime.devices.base import Device
from dff_edge.runtime.devices.cpu import CpuDevice
from dff_edge.runtime.engines.base import Engine
from dff_edge.runtime.engines.subnets import Subnets
from dff_edge.runtime.kernels.resize import check_image
from dff_edge.runtime.scheduler import Scheduler
from dff_edge.runtime.sequential import Arrays, SequentialRunner, open_graphs
from dff_edge.runtime.sources import open_source
from dff_edge.runtime.tasks import decoder_of
from dff_edge.runtime.tasks.decoders import Decoder

FRAMES = 12
KEY_EVERY = 4  # of these frames: three quarters are propagated, over one to three frames

# Name in the reference of each graph's outputs.
_NETWORKS = {"propagate_portable": "propagate", "task_maps": "task"}


@dataclass(frozen=True)
class Reference:
    """Outputs and results of the FP32 graphs for some frames.

    Attributes:
        frames: the frames, numbered from 0.
        inputs: inputs of each network, one for each of its runs: "feature", "flow", "task"
            and "propagate", the warp and the task network.
        outputs: its outputs.
        answers: the result for each frame, by the task; see ``Result.answer``.
    """

    frames: tuple[Frame, ...]
    inputs: dict[str, list[Arrays]]
    outputs: dict[str, list[Arrays]]
    answers: tuple[Any, ...]


def draw_frames(source: str) -> tuple[Frame, ...]:
    """Return the first frames of a source, of one size, numbered from 0.

    Raises:
        SourceError: when it has fewer than two, so that nothing could be propagated.
        ConfigError: when it is not a source.
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
    inputs: dict[str, list[Arrays]] = {}
    outputs: dict[str, list[Arrays]] = {}

    def note(network: str, given: Arrays, taken: Arrays) -> Arrays:
        inputs.setdefault(network, []).append(given)
        outputs.setdefault(network, []).append(taken)
        return taken

    with open_graphs(bundle, "fp32", propagate=True) as subnets:
        runner = SequentialRunner(subnets)
        features: NDArray[Any] | None = None
        key_half: NDArray[Any] | None = None
        for frame in frames:
            half = runner.half(frame.image)
            if _is_key(frame) or features is None or key_half is None:
                full = runner.full(frame.image)
                features, key_half = runner.extract(full), half
                note("feature", {"frame": full}, {"features": features})
                note("task", {"features": features}, runner.score(features))
            else:
                given = {"key_half": key_half, "frame_half": half}
                moved = note("flow", given, runner.estimate_flow(key_half, half))
                given = {"features": features, **moved}
                note("propagate", given, runner.propagate(features, moved))
        answers = answer_frames(CpuDevice(), subnets, decoder_of(bundle.manifest), frames)
    return Reference(tuple(frames), inputs, outputs, answers)


def relative_errors(
    engine: Engine, graph: str, reference: Reference, levels: MapLevels | None
) -> dict[str, float]:
    """Return how far an engine's outputs are from the reference's, for the reference's inputs.

    Args:
        engine: reads and writes maps of its own precision.
        graph: the name of its graph.
        reference: outputs of FP32.
        levels: of features and scale field, where they are quantised.

    Returns:
        By output, ``|got - expected| / |expected|`` with Euclidean norms over all runs.

    Raises:
        EngineError: when an output is not finite, or the engine fails.
    """
    name = _NETWORKS.get(graph, graph)
    by_name = {} if levels is None else levels.by_name
    wrong = dict.fromkeys(engine.outputs, 0.0)
    right = dict.fromkeys(engine.outputs, 0.0)
    taken = {output: spec.empty() for output, spec in engine.outputs.items()}
    for given, expected in zip(reference.inputs[name], reference.outputs[name], strict=True):
        fitting = {
            key: by_name[key].quantize(given[key])
            if key in by_name
            else np.ascontiguousarray(given[key], spec.dtype)
            for key, spec in engine.inputs.items()
        }
        engine.run(fitting, taken)
        for key, array in taken.items():
            got = by_name[key].dequantize(array) if key in by_name else array.astype(np.float32)
            if not np.isfinite(got).all():
                raise EngineError(
                    f"the {engine.name} engine has values that are not finite for '{key}', where "
                    "the FP32 graph's are finite. In fp16 it is an overflow: use fp32."
                )
            wrong[key] += float(np.square(got - expected[key]).sum(dtype=np.float64))
            right[key] += float(np.square(expected[key]).sum(dtype=np.float64))
    # Only zeros expected: any error counts as 1.
    return {k: (wrong[k] / right[k]) ** 0.5 if right[k] else float(wrong[k] > 0) for k in taken}


def graph_answers(
    bundle: Bundle, precision: Precision, flavour: Flavour, frames: Sequence[Frame]
) -> tuple[Any, ...]:
    """Return the results of a precision's graphs themselves, in ONNX Runtime on the CPU.

    Raises:
        EngineError: when they do not load.
        MissingDependencyError: when onnxruntime is not installed.
    """
    with open_graphs(bundle, precision, flavour) as subnets:
        return answer_frames(CpuDevice(), subnets, decoder_of(bundle.manifest), frames)


def answer_frames(
    device: Device, subnets: Subnets, decoder: Decoder, frames: Sequence[Frame]
) -> tuple[Any, ...]:
    """Return the result for each frame, at its size; every fourth frame is a key frame."""
    scheduler = Scheduler(device, subnets, decoder, depth=1)
    try:
        answers = []
        for frame in frames:
            scheduler.submit(frame, is_key=_is_key(frame))
            result = scheduler.collect()
            answers.append(result.answer)
        return tuple(answers)
    finally:
        scheduler.close()


def _is_key(frame: Frame) -> bool:
    return frame.index % KEY_EVERY == 0
