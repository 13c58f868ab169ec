"""Levels: what the bytes of the maps that travel between subnets mean."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dff_edge.errors import ConfigError

MIN_STEP, MAX_STEP = 1e-30, 1e6  # of Levels: products with it stay float32 numbers


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
