"""Inputs and outputs of the graphs of a bundle: the tables of docs/design/networks.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from dff_edge.bundle.tasks import FORMATS, TaskName
from dff_edge.bundle.tensors import TensorSpec
from dff_edge.names import Flavour, GraphName

STRIDE = 16  # frame pixels per cell of the feature map, each way, by default


@dataclass(frozen=True, slots=True)
class GraphContract:
    """Inputs and outputs that a graph must have, by name; no more and no fewer."""

    inputs: dict[str, TensorSpec]
    outputs: dict[str, TensorSpec]

    def problems(
        self, inputs: Mapping[str, TensorSpec], outputs: Mapping[str, TensorSpec]
    ) -> list[str]:
        """Describe how a graph's inputs and outputs differ from these; empty if they do not."""
        return _differences("input", inputs, self.inputs) + _differences(
            "output", outputs, self.outputs
        )


def graph_contract(
    subnet: GraphName,
    *,
    frame_size: tuple[int, int],
    channels: int,
    classes: int,
    maps: DTypeLike = np.float32,
    task: TaskName = "segmentation",
    settings: Any = None,
    flavour: Flavour = "ort",
    stride: int = STRIDE,
    correction: bool = False,
) -> GraphContract:
    """Return the contract of one graph of a bundle.

    Args:
        subnet: name of the graph; task_maps is there if ``TaskFormat.has_task_maps``.
        frame_size: ``(H, W)`` of the network's frames, multiples of the stride.
        channels: C of the feature map.
        classes: K, without the background of detection.
        maps: dtype of features and scale field; uint8 and int8 are quantised by ``MapLevels``.
        task: the task of the bundle.
        settings: the task's settings in the manifest, such as ``RfcnSettings``.
        flavour: of the graph. Those for TensorRT all end with the decoder's inputs, as TensorRT
            supports none of a detector's later operators.
        stride: pixels of the frame per feature cell.
        correction: whether the flow graph returns what is added to the maps of propagated features.
    """
    height, width = frame_size
    cells = (height // stride, width // stride)
    half = (1, height // 2, width // 2, 3)
    uint8, float32 = np.dtype(np.uint8), np.dtype(np.float32)
    wide: np.dtype[Any] = np.dtype(maps)
    specs = {
        spec.name: spec
        for spec in (
            TensorSpec("frame", uint8, (1, height, width, 3)),
            TensorSpec("key_half", uint8, half),
            TensorSpec("frame_half", uint8, half),
            TensorSpec("features", wide, (1, *cells, channels)),
            TensorSpec("flow", float32, (1, *cells, 2)),
            TensorSpec("scale", wide, (1, *cells, channels)),
        )
    }
    is_decoded = flavour == "trt" or subnet == "task_maps"
    known = FORMATS.find(task)
    outputs_of = known.outputs if is_decoded else known.whole_outputs
    moved, added = ("flow", "scale"), ("correction",) if correction else ()
    if correction:
        maps_channels = sum(s.shape[3] for s in known.outputs(cells, classes, settings))
        specs["correction"] = TensorSpec("correction", float32, (1, *cells, maps_channels))
    inputs: dict[GraphName, tuple[str, ...]] = {
        "feature": ("frame",),
        "flow": ("key_half", "frame_half"),
        "task": ("features", *added),
        "task_maps": ("features", *added),
        "propagate": ("features", *moved, *added),
        "propagate_portable": ("features", *moved, *added),
    }
    outputs: dict[GraphName, tuple[str, ...]] = {
        "feature": ("features",),
        "flow": (*moved, *added),
    }
    return GraphContract(
        {name: specs[name] for name in inputs[subnet]},
        {name: specs[name] for name in outputs[subnet]}
        if subnet in outputs
        else {spec.name: spec for spec in outputs_of(cells, classes, settings)},
    )


def _differences(
    role: str, found: Mapping[str, TensorSpec], expected: Mapping[str, TensorSpec]
) -> list[str]:
    problems = [
        f"{role} '{name}' is missing, expected {spec.dtype.name} {spec.shape}"
        for name, spec in expected.items()
        if name not in found
    ]
    for name, spec in found.items():
        wanted = expected.get(name)
        if wanted is None:
            problems.append(f"{role} '{name}' is not expected; the {role}s are {list(expected)}")
        elif spec != wanted:
            problems.append(
                f"{role} '{name}' is {spec.dtype.name} {spec.shape}, "
                f"expected {wanted.dtype.name} {wanted.shape}"
            )
    return problems
