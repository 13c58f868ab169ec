"""The name, dtype and shape of a tensor, by which graphs, engines and devices are compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Name, dtype and static shape of one input or output of a graph."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype.name} {self.shape}"

    def empty(self) -> NDArray[Any]:
        """Allocate an array that fits, with undefined contents."""
        return np.empty(self.shape, self.dtype)
