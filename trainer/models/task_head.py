"""The base of all task networks."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


class TaskHead(nn.Module):
    """A task network: features to the maps that the task's loss and decoder read."""

    def parts(self, maps: Tensor) -> Any:
        """Return the outputs of ``forward`` from maps that ``join`` made one tensor."""
        return maps
