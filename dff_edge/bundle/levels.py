"""Levels: the quantisation of maps that are passed between subnets as bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dff_edge.errors import ConfigError

UINT8, INT8 = np.dtype(np.uint8), np.dtype(np.int8)
MIN_STEP, MAX_STEP = 1e-30, 1e6  # of Levels: products with it stay float32 numbers


@dataclass(frozen=True, slots=True)
class Levels:
    """Linear quantisation of a map: ``value = step * (byte - zero)``.

    Attributes:
        step: distance of two neighbouring values, 1e-30 to 1e6.
        zero: the byte that means 0; 0 itself in maps for TensorRT.
        dtype: of the bytes: uint8, or int8 in maps for TensorRT.

    Raises:
        ConfigError: one of them is out of range.
    """

    step: float
    zero: int
    dtype: np.dtype[Any] = UINT8

    def __post_init__(self) -> None:
        if not (MIN_STEP <= self.step <= MAX_STEP and 0 <= self.zero <= 255):
            raise ConfigError(
                f"step is {self.step} and zero is {self.zero}, expected 1e-30 to 1e6 and a byte."
            )

    @property
    def range(self) -> tuple[float, float]:
        """The smallest and the largest value that there are."""
        ends = np.iinfo(self.dtype)
        return (int(ends.min) - self.zero) * self.step, (int(ends.max) - self.zero) * self.step

    def dequantize(self, bytes_: NDArray[Any]) -> NDArray[np.float32]:
        """Return the values of bytes, as float32 of the same shape."""
        values: NDArray[np.float32] = bytes_.astype(np.float32)
        values -= np.float32(self.zero)
        values *= np.float32(self.step)
        return values

    def quantize(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return the nearest bytes, ties to even, clipped to their range; of the same shape."""
        ends = np.iinfo(self.dtype)
        levels = np.rint(values / np.float32(self.step)) + self.zero
        return np.clip(levels, ends.min, ends.max).astype(self.dtype)


@dataclass(frozen=True, slots=True)
class MapLevels:
    """Levels of the quantised maps that are passed between subnets.

    Attributes:
        features: of the feature map, for the key frame and propagated alike.
        scale: of the scale field.
    """

    features: Levels
    scale: Levels

    @property
    def by_name(self) -> dict[str, Levels]:
        """Both levels, by the names of the maps in graphs."""
        return {"features": self.features, "scale": self.scale}
