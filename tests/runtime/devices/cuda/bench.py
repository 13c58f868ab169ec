"""Streams of any device, as something that runs Python functions: to see what waits for what."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable

from dff_edge.runtime.devices.base import Event, Stream
from dff_edge.runtime.devices.cpu import CpuDevice
from dff_edge.runtime.devices.cuda.device import CudaDevice

_HOST_FUNCTION = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
TIMEOUT_S = 30.0  # of what would otherwise hang


class CpuBench:
    """The CPU."""

    def __init__(self) -> None:
        self.device = CpuDevice()

    def call(self, stream: Stream, function: Callable[[], None]) -> None:
        """Have a function called in the stream's order."""
        stream.enqueue(function)


class CudaBench:
    """CUDA, by host functions."""

    def __init__(self, device: CudaDevice, library: ctypes.CDLL) -> None:
        self.device = device
        self._launch = library.cuLaunchHostFunc
        self._launch.argtypes = [ctypes.c_void_p, _HOST_FUNCTION, ctypes.c_void_p]
        self._kept: list[object] = []

    def call(self, stream: Stream, function: Callable[[], None]) -> None:
        """Have a function called in the stream's order."""
        callback = _HOST_FUNCTION(lambda _: function())
        self._kept.append(callback)  # ctypes frees it with its last reference
        with self.device.current():
            assert self._launch(stream.handle, callback, None) == 0


class Gate:
    """Holds a stream up until the test opens it."""

    def __init__(self, bench: CpuBench | CudaBench, stream: Stream) -> None:
        self._is_open = threading.Event()
        self._is_reached = threading.Event()
        self._bench = bench  # it keeps the callback
        bench.call(stream, self._pass)

    def open(self) -> None:
        self._is_open.set()

    def wait_until_reached(self) -> None:
        """Wait until the stream has come to it."""
        assert self._is_reached.wait(TIMEOUT_S)

    def _pass(self) -> None:
        self._is_reached.set()
        assert self._is_open.wait(TIMEOUT_S)


def stays_undone(event: Event) -> bool:
    """Whether an event is still not done after other threads had every occasion to run."""
    for _ in range(2000):
        if event.is_done:
            return False
        os.sched_yield()
    return True
