"""The base of all task networks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn


class TaskHead(nn.Module):
    """A task network: features to the maps that the task's loss and decoder read.

    Attributes:
        class_layers: the layers whose outputs belong to classes, and how many outputs precede those
            of the classes (a background). A layer may have several groups of such outputs.
    """

    class_layers: ClassVar[Mapping[str, int]] = {}

    def parts(self, maps: Tensor) -> Any:
        """Return the outputs of ``forward`` from maps that ``join`` made one tensor."""
        return maps
