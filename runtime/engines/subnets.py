"""The engines of a bundle in one precision as the scheduler takes them, and their device."""

from __future__ import annotations

from dataclasses import dataclass

from dff_edge.bundle.levels import MapLevels
from dff_edge.runtime.devices.base import Device
from dff_edge.runtime.engines.base import Engine


@dataclass(frozen=True)
class Subnets:
    """The three engines of a bundle in one precision.

    Attributes:
        levels: of features and scale field where they are bytes, None where they are floats.
        propagate: warp and task network in one engine, which takes their place on frames that are
            no key frames; None to have the device warp.
    """

    feature: Engine
    flow: Engine
    task: Engine
    levels: MapLevels | None = None
    propagate: Engine | None = None

    @property
    def engines(self) -> list[Engine]:
        """All that there are."""
        engines = [self.feature, self.flow, self.task]
        return engines if self.propagate is None else [*engines, self.propagate]

    def close(self) -> None:
        """Free all of them."""
        for engine in self.engines:
            engine.close()


@dataclass(frozen=True)
class Opened:
    """Engines and their device, which close together."""

    device: Device
    subnets: Subnets

    def close(self) -> None:
        """Free all engines, then the device. Closing twice is allowed."""
        self.subnets.close()
        self.device.close()
