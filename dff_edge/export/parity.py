"""Comparison of each exported graph with the torch model.

Every graph runs in ONNX Runtime on random inputs and on frames of a synthetic street,
against the model as it was trained: nothing folded, nothing channels-last.

Error: the largest absolute difference, divided by the largest absolute value of the
reference. One number for maps whose cells may be near zero.

Detections are compared as sets, for rounding may change the order of two with equal scores, and so
the result of NMS: the error is the share of both sets that is not matched.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dff_edge.boxes import Detections
from dff_edge.bundle.records import Parity
from dff_edge.detection_matching import detections_of, partners
from dff_edge.errors import ExportError
from dff_edge.frames import Image
from dff_edge.names import Subnet
from dff_edge.runtime.engines.onnxruntime import OrtEngine
from dff_edge.runtime.kernels.resize import FrameResizer
from dff_edge.synthetic import StreetScene
from dff_edge.trainer.models import DeepFeatureFlow, detect, warp_features
from dff_edge.trainer.models.box_coding import BOX_STDS, PROPOSAL_STDS

# Float32 through a hundred layers, summed in another order, with folded weights: 2e-6 to
# 1e-5 in measurements. Ten times that; a wrong weight or a swapped input leads to 1e-2 and more.
TOLERANCE = 1e-4

# Matches are the same box in all but rounding. Of a hundred detections two may be lost by a tie.
_SAME_IOU, _SAME_SCORE, _LOST_SHARE = 0.99, 1e-3, 0.02

_RANDOM, _REAL = "random", "synthetic street"
_PAIR_DISTANCE = 4
_MAX_RANDOM_FLOW = 4.0  # cells; some of it leaves the map

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class _Case:
    """Inputs of the graphs, and the model's outputs for them, by subnet."""

    name: str
    inputs: dict[Subnet, Arrays]
    outputs: dict[Subnet, Arrays | Detections]


def check_parity(
    model: DeepFeatureFlow,
    graphs: Mapping[Subnet, bytes],
    frame_size: tuple[int, int],
    channels: int,
    *,
    seed: int = 0,
    tolerance: float = TOLERANCE,
) -> list[Parity]:
    """Compare exported fp32 graphs with their model.

    Args:
        model: in evaluation mode, on the CPU.
        graphs: ONNX files by subnet.
        frame_size: H and W.
        channels: C.
        seed: of the inputs.
        tolerance: largest relative error.

    Returns:
        One record for each output of each graph and each kind of input.

    Raises:
        ExportError: names the graph, its output, the error and the tolerance.
    """
    corrects = "flow" in graphs  # hand-crafted flow has no correction
    cases = [
        _random_case(model, frame_size, channels, seed, corrects=corrects),
        _street_case(model, frame_size, seed, corrects=corrects),
    ]
    records: list[Parity] = []
    for subnet, data in graphs.items():
        with OrtEngine(data, name=f"exported {subnet}") as engine:
            for case in cases:
                outputs = {name: spec.empty() for name, spec in engine.outputs.items()}
                engine.run(case.inputs[subnet], outputs)
                expected = case.outputs[subnet]
                if isinstance(expected, Detections):
                    found = detections_of(outputs)
                    records.append(_compare_detections(subnet, case.name, found, expected))
                    continue
                for name, array in outputs.items():
                    records.append(
                        _compare(subnet, name, case.name, array, expected[name], tolerance)
                    )
    return records


def _compare(
    subnet: Subnet,
    output: str,
    inputs: str,
    found: NDArray[Any],
    expected: NDArray[Any],
    tolerance: float,
) -> Parity:
    largest = float(np.max(np.abs(expected)))
    error = float(np.max(np.abs(found.astype(np.float64) - expected)))
    relative = error / largest if largest > 0 else error
    if not relative <= tolerance:  # negated: NaN fails
        raise ExportError(
            f"The {subnet} graph differs from its torch model: '{output}' on {inputs} inputs has a "
            f"relative error of {relative:.3g}, expected at most {tolerance:.3g} (largest "
            f"difference {error:.3g}, largest value {largest:.3g}). Nothing was written."
        )
    return Parity(
        precision="fp32",
        subnet=subnet,
        output=output,
        inputs=inputs,
        tolerance=tolerance,
        max_abs_error=error,
        relative_error=relative,
    )


def _compare_detections(
    subnet: Subnet, inputs: str, found: Detections, expected: Detections
) -> Parity:
    same = {"min_iou": _SAME_IOU, "max_score_error": _SAME_SCORE}
    there, back = partners(expected, found, **same), partners(found, expected, **same)
    lost = int((there < 0).sum() + (back < 0).sum())
    share = lost / max(1, len(expected) + len(found))
    if share > _LOST_SHARE:
        raise ExportError(
            f"The {subnet} graph differs from its torch model: on {inputs} inputs {lost} of "
            f"{len(found)} and {len(expected)} detections have no match in the other set, "
            f"expected at most {_LOST_SHARE:.0%}. Nothing was written."
        )
    is_there = there >= 0
    apart = np.abs(expected.scores[is_there] - found.scores[there[is_there]])
    return Parity(
        precision="fp32",
        subnet=subnet,
        output="detections",
        inputs=inputs,
        tolerance=_LOST_SHARE,
        max_abs_error=float(apart.max(initial=0)),
        relative_error=share,
    )


def _random_case(
    model: DeepFeatureFlow,
    frame_size: tuple[int, int],
    channels: int,
    seed: int,
    *,
    corrects: bool,
) -> _Case:
    """Return noise: also features that occur for no frame, and a flow that leaves the map."""
    rng = np.random.default_rng([seed, 1])
    height, width = frame_size
    stride = model.feature.stride
    shape = (1, height // stride, width // stride, channels)
    return _case(
        model,
        _RANDOM,
        frame=rng.integers(0, 256, (1, height, width, 3), np.uint8),
        halves=rng.integers(0, 256, (2, 1, height // 2, width // 2, 3), np.uint8),
        features=rng.standard_normal(shape, np.float32),
        flow=rng.uniform(-_MAX_RANDOM_FLOW, _MAX_RANDOM_FLOW, (*shape[:3], 2)).astype(np.float32),
        scale=rng.uniform(0.5, 1.5, shape).astype(np.float32),
        corrects=corrects,
    )


def _street_case(
    model: DeepFeatureFlow, frame_size: tuple[int, int], seed: int, *, corrects: bool
) -> _Case:
    """Return two frames of a street, passed through all networks as on the device."""
    scene = StreetScene(seed, "train", frame_size, _PAIR_DISTANCE + 1)
    images = [scene.render(index)[0] for index in (0, _PAIR_DISTANCE)]
    halves = np.stack([_half(image, frame_size) for image in images])
    return _case(model, _REAL, frame=images[0][None], halves=halves, corrects=corrects)


@torch.inference_mode()
def _case(
    model: DeepFeatureFlow,
    name: str,
    *,
    frame: NDArray[Any],
    halves: NDArray[Any],
    features: NDArray[Any] | None = None,
    flow: NDArray[Any] | None = None,
    scale: NDArray[Any] | None = None,
    corrects: bool,
) -> _Case:
    """Run the model; the heads read the given features, else those of the networks."""
    extracted = model.extract(_planes(frame))
    estimated, factors, correction = model.move(_planes(halves[0]), _planes(halves[1]))
    correction = correction if corrects else None
    if factors is None:
        factors = torch.ones_like(extracted)
    outputs = {
        "features": _channels_last(extracted),
        "flow": _channels_last(estimated),
        "scale": _channels_last(factors),
    }
    heads = {
        "features": outputs["features"] if features is None else features,
        "flow": outputs["flow"] if flow is None else flow,
        "scale": outputs["scale"] if scale is None else scale,
    }
    maps = _planes(heads["features"])
    warped = warp_features(maps, _planes(heads["flow"]), _planes(heads["scale"]))
    size = (frame.shape[1], frame.shape[2])
    added = {} if correction is None else {"correction": _channels_last(correction)}
    return _Case(
        name,
        inputs={
            "feature": {"frame": frame},
            "flow": {"key_half": halves[0], "frame_half": halves[1]},
            "task": {"features": heads["features"], **added},
            "task_maps": {"features": heads["features"], **added},
            "propagate": {**heads, **added},
        },
        outputs={
            "feature": {"features": outputs["features"]},
            "flow": {"flow": outputs["flow"], "scale": outputs["scale"], **added},
            **_answers(model, maps, correction, size),
            "propagate": _answers(model, warped, correction, size)["task"],
        },
    )


def _answers(
    model: DeepFeatureFlow,
    features: Tensor,
    correction: Tensor | None,
    frame_size: tuple[int, int],
) -> dict[Subnet, Arrays | Detections]:
    """Return the task network's outputs for features."""
    raw = model.answer(features, correction)
    if model.rfcn is None:
        return {"task": {"scores": _channels_last(raw)}}
    learned = {name: _channels_last(own) for name, own in raw._asdict().items()}
    for name, stds in (("deltas", PROPOSAL_STDS), ("box_maps", BOX_STDS)):
        learned[name] *= np.resize(np.array(stds, np.float32), learned[name].shape[3])
    return {"task": detect(raw, frame_size, model.rfcn)[0], "task_maps": learned}


def _half(image: Image, frame_size: tuple[int, int]) -> Image:
    out = np.empty((1, frame_size[0] // 2, frame_size[1] // 2, 3), np.uint8)
    FrameResizer(frame_size).half(image, out)
    return out


def _planes(array: NDArray[Any]) -> Tensor:
    return torch.from_numpy(array).permute(0, 3, 1, 2).float().contiguous()


def _channels_last(maps: Tensor) -> NDArray[Any]:
    return np.ascontiguousarray(maps.permute(0, 2, 3, 1).float().numpy())
