"""The context of a GPU: the driver, and the resources to be freed with it."""

from __future__ import annotations

from dff_edge.runtime.devices.cuda.driver import CurrentContext, Driver
from dff_edge.runtime.devices.cuda.ledger import Ledger


class CudaContext:
    """The part of a device that its streams, events, images and buffers use.

    They keep a reference to it, as it must outlive them.

    Attributes:
        driver: the package that the GPU is used through.
        ordinal: number of the GPU.
        handles: streams, events and graphs to be freed.
        memory: buffers to be freed.
    """

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.ordinal = driver.ordinal
        self.handles = Ledger()
        self.memory = Ledger()

    def current(self) -> CurrentContext:
        """Make the GPU's primary context current in this thread, inside ``with``."""
        return self.driver.current()

    def memory_info(self) -> tuple[int, int]:
        """Bytes of device memory, free and in all."""
        with self.current():
            return self.driver.memory_info()
