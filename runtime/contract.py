"""What the four graphs of a bundle take and give: the table of docs/architecture.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import DTypeLike, NDArray

from dff_edge.runtime.engine import TensorSpec
from dff_edge.runtime.errors import ConfigError

Precision = Literal["fp32", "fp16", "int8"]
Subnet = Literal["feature", "flow", "task", "propagate"]
# Whose rules a graph follows: ONNX Runtime's (and OpenVINO's), or TensorRT's.
Flavour = Literal["ort", "trt"]
# For TensorRT, propagate has the warp as a plugin node; the portable form is another file.
GraphName = Literal["feature", "flow", "task", "propagate", "propagate_portable"]

PRECISIONS: tuple[Precision, ...] = get_args(Precision)
SUBNETS: tuple[Subnet, ...] = get_args(Subnet)
FLAVOURS: tuple[Flavour, ...] = get_args(Flavour)
TENSORRT_GRAPHS: tuple[GraphName, ...] = get_args(GraphName)

MIN_STEP, MAX_STEP = 1e-30, 1e6  # of Levels: products with it stay float32 numbers
STRIDE = 16  # frame pixels per cell of the feature map, each way


@dataclass(frozen=True, slots=True)
class Levels:
    """What the bytes of a map mean: ``value = step * (byte - zero)``.

    The bytes are uint8; those of maps for TensorRT are int8, and ``zero`` is 0.

    Attributes:
        step: distance of two neighbouring values, 1e-30 to 1e6.
        zero: the byte that means 0.

    Raises:
        ConfigError: one of them is out of range.
    """

    step: float
    zero: int

    def __post_init__(self) -> None:
        if not (MIN_STEP <= self.step <= MAX_STEP and 0 <= self.zero <= 255):
            raise ConfigError(
                f"step is {self.step} and zero is {self.zero}, expected 1e-30 to 1e6 and a byte."
            )

    @property
    def range(self) -> tuple[float, float]:
        """The smallest and the largest value that there are."""
        return -self.zero * self.step, (255 - self.zero) * self.step

    def values(self, bytes_: NDArray[np.uint8]) -> NDArray[np.float32]:
        """What bytes mean, as float32 of the same shape."""
        values: NDArray[np.float32] = bytes_.astype(np.float32)
        values -= np.float32(self.zero)
        values *= np.float32(self.step)
        return values

    def bytes(self, values: NDArray[np.float32]) -> NDArray[np.uint8]:
        """The nearest bytes, ties to even; what is out of range takes its end."""
        levels = np.rint(values / np.float32(self.step)) + self.zero
        bytes_: NDArray[np.uint8] = np.clip(levels, 0, 255).astype(np.uint8)
        return bytes_


@dataclass(frozen=True, slots=True)
class MapLevels:
    """Levels of the maps that travel between subnets as bytes.

    Attributes:
        features: of the feature map, of the key frame as of propagated ones.
        scale: of the scale field.
    """

    features: Levels
    scale: Levels


@dataclass(frozen=True, slots=True)
class GraphContract:
    """Inputs and outputs that a graph must have, by name; no more and no fewer."""

    inputs: dict[str, TensorSpec]
    outputs: dict[str, TensorSpec]

    def problems(
        self, inputs: Mapping[str, TensorSpec], outputs: Mapping[str, TensorSpec]
    ) -> list[str]:
        """Say how a graph's inputs and outputs differ from these; empty when they do not."""
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
) -> GraphContract:
    """Give the contract of one subnet of a segmentation bundle.

    Args:
        subnet: which of the graphs.
        frame_size: ``(H, W)`` of the network's frames, multiples of the stride.
        channels: C of the feature map.
        classes: K of the score maps.
        maps: dtype of features and scale field; uint8 and int8 mean values by ``MapLevels``.
    """
    height, width = frame_size
    cells = (height // STRIDE, width // STRIDE)
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
            TensorSpec("scores", float32, (1, *cells, classes)),
        )
    }
    propagate = (("features", "flow", "scale"), ("scores",))
    names: dict[GraphName, tuple[tuple[str, ...], tuple[str, ...]]] = {
        "feature": (("frame",), ("features",)),
        "flow": (("key_half", "frame_half"), ("flow", "scale")),
        "task": (("features",), ("scores",)),
        "propagate": propagate,
        "propagate_portable": propagate,
    }
    inputs, outputs = names[subnet]
    return GraphContract({n: specs[n] for n in inputs}, {n: specs[n] for n in outputs})


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
