"""What an import comes to: networks with this project's names, and the settings that they need."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from dff_edge.runtime.errors import CheckpointError
from dff_edge.trainer.importing.normalisation import Normalisation

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Network:
    """One network out of a foreign file.

    Attributes:
        tensors: float32 state dict with this project's names. The first convolution of a feature
            network reads RGB, as in every published file and as ``init.feature_order`` has it;
            that of a flow network reads BGR, as this project's.
        settings: what its part of a model's configuration has to say.
        normalisation: of the frames that ``tensors`` expect; None for a task network.
    """

    tensors: Tensors
    settings: dict[str, Any]
    normalisation: Normalisation | None = None


@dataclass(frozen=True)
class Imported:
    """All that is taken from a file.

    Attributes:
        origin: what kind of file it is, in words.
        networks: by the name of their part: "feature", "flow", "task".
        left_out: names in the file of what is not taken.
        notes: where the original does something else, whatever its weights.
    """

    origin: str
    networks: dict[str, Network]
    left_out: tuple[str, ...]
    notes: tuple[str, ...]


def rename(tensors: Tensors, rule: Callable[[str], str]) -> Tensors:
    """Give tensors other names.

    Raises:
        CheckpointError: two would get the same.
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
