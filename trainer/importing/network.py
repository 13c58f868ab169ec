"""Results of an import: networks with this project's names, and the settings that they need."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from dff_edge.errors import CheckpointError
from dff_edge.trainer.importing.normalisation import Normalisation

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Network:
    """One network of an imported file.

    Attributes:
        tensors: float32 state dict with this project's names. The first convolution of a feature
            network reads RGB, as in every published file and in ``init.feature_order``;
            that of a flow network reads BGR, like this project's.
        settings: settings of its part of a model's configuration.
        normalisation: of the frames that ``tensors`` expect; None for a task network.
    """

    tensors: Tensors
    settings: dict[str, Any]
    normalisation: Normalisation | None = None


@dataclass(frozen=True)
class Imported:
    """Everything imported from a file.

    Attributes:
        origin: kind of file, in words.
        networks: by the name of their part: "feature", "flow", "task".
        left_out: names in the file that are not imported.
        notes: where the original computes something else, whatever its weights.
    """

    origin: str
    networks: dict[str, Network]
    left_out: tuple[str, ...]
    notes: tuple[str, ...]


def convolution(tensors: Tensors, name: str) -> Tensor | None:
    """Return a convolution's weight, None where there is none.

    Raises:
        CheckpointError: it is not a weight of a convolution.
    """
    weight = tensors.get(name)
    if weight is not None and weight.ndim != 4:
        raise CheckpointError(
            f"{name} has shape {tuple(weight.shape)}, expected (kernels, channels, height, width)."
        )
    return weight


def as_float(tensors: Tensors) -> Tensors:
    """Return tensors in float32.

    Raises:
        CheckpointError: one holds integer, complex or boolean values, which weights never are.
    """
    for name, value in tensors.items():
        if not value.is_floating_point():
            raise CheckpointError(f"{name} holds {value.dtype}, expected floating-point weights.")
    return {name: value.float() for name, value in tensors.items()}


def rename(tensors: Tensors, rule: Callable[[str], str]) -> Tensors:
    """Rename tensors.

    Raises:
        CheckpointError: two would get the same name.
    """
    renamed: Tensors = {}
    origins: dict[str, str] = {}
    for name, value in tensors.items():
        own = rule(name)
        if own in renamed:
            raise CheckpointError(
                f"{origins[own]} and {name} are the same layer, expected one of them."
            )
        renamed[own], origins[own] = value, name
    return renamed
