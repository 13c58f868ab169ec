"""The engines of a bundle in one precision, for the scheduler, and their device."""

from __future__ import annotations

from dataclasses import dataclass

from dff_edge.bundle.levels import MapLevels
from dff_edge.runtime.devices.base import Device
from dff_edge.runtime.engines.base import Engine


@dataclass(frozen=True)
class Subnets:
    """The three engines of a bundle in one precision.

    Attributes:
        levels: quantisation of features and scale field; None where they are floats.
        propagate: warp and task network in one engine, used for non-key frames; None to have the
            device warp.
    """

    feature: Engine
    flow: Engine
    task: Engine
    levels: MapLevels | None = None
    propagate: Engine | None = None

    @property
    def engines(self) -> list[Engine]:
        """Return all engines."""
        engines = [self.feature, self.flow, self.task]
        return engines if self.propagate is None else [*engines, self.propagate]

    def close(self) -> None:
        """Close all engines."""
        for engine in self.engines:
            engine.close()


@dataclass(frozen=True)
class Opened:
    """Engines and their device, which are closed together."""

    device: Device
    subnets: Subnets

    def close(self) -> None:
        """Free all engines, then the device. Closing twice is allowed."""
        self.subnets.close()
        self.device.close()
