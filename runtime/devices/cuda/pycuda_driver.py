"""CUDA through pycuda.

The primary context, pushed and popped around each use, so that torch, ONNX Runtime and TensorRT
can live beside it; pycuda's autoinit makes a context of its own and must not be imported.
"""

from __future__ import annotations

import ctypes
import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dff_edge.errors import EngineError, PipelineError, require
from dff_edge.packages import package_command
from dff_edge.runtime.devices.cuda.cuda_python import check_ordinal
from dff_edge.runtime.devices.cuda.driver import (
    CudaError,
    CurrentContext,
    DeviceMemory,
    EventHandle,
    GraphHandle,
    PinnedMemory,
    StreamHandle,
)

_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING
_SLEEPING_EVENT = 1  # CU_EVENT_BLOCKING_SYNC: see cuda_python.py
_LEGACY_STREAM = (0, 1)  # the default stream's numbers


class PycudaDriver:
    """A device's primary context through ``pycuda.driver``. See ``Driver``.

    pycuda has no graphs and no priorities, and does not accept streams of other libraries.

    Args:
        ordinal: number of the device.

    Raises:
        MissingDependencyError: pycuda is not installed.
        EngineError: pycuda does not load, no such device.
    """

    name = "pycuda"
    has_graphs = False

    def __init__(self, ordinal: int) -> None:
        self._api = _import_pycuda()
        _call("cuInit", self._api, self._api.init)
        check_ordinal(ordinal, _call("cuDeviceGetCount", self._api, self._api.Device.count))
        device = self._api.Device(ordinal)
        self.ordinal = ordinal
        self.device_name = str(device.name())
        major, minor = device.compute_capability()
        self.compute_capability = (int(major), int(minor))
        self._context: Any = self._call("cuDevicePrimaryCtxRetain", device.retain_primary_context)
        self._current = CurrentContext(
            push=lambda: self._call("cuCtxPushCurrent", self._open_context().push),
            pop=lambda: self._call("cuCtxPopCurrent", self._api.Context.pop),
        )

    def current(self) -> CurrentContext:
        return self._current

    def memory_info(self) -> tuple[int, int]:
        free, total = self._call("cuMemGetInfo", self._api.mem_get_info)
        return free, total

    def allocate(self, nbytes: int) -> DeviceMemory:
        memory = self._call("cuMemAlloc", self._api.mem_alloc, nbytes)
        return DeviceMemory(int(memory), memory)

    def free(self, memory: DeviceMemory) -> None:
        self._call("cuMemFree", memory.handle.free)

    def allocate_pinned(self, nbytes: int) -> PinnedMemory:
        array = self._call("cuMemHostAlloc", self._api.pagelocked_empty, nbytes, np.uint8)
        return PinnedMemory(array, array.base)

    def free_pinned(self, memory: PinnedMemory) -> None:
        self._call("cuMemFreeHost", memory.handle.free)

    def copy_in(self, pointer: int, array: NDArray[Any], stream: StreamHandle) -> None:
        self._call("cuMemcpyHtoDAsync", self._api.memcpy_htod_async, pointer, array, stream)

    def copy_out(self, array: NDArray[Any], pointer: int, stream: StreamHandle) -> None:
        self._call("cuMemcpyDtoHAsync", self._api.memcpy_dtoh_async, array, pointer, stream)

    def create_stream(self, priority: int) -> StreamHandle:
        if priority != 0:
            raise _unsupported(f"streams of priority {priority}")
        return self._call("cuStreamCreate", self._api.Stream, _NON_BLOCKING)

    def foreign_stream(self, handle: int) -> StreamHandle:
        if handle not in _LEGACY_STREAM:
            raise _unsupported(f"stream {handle:#x} of another library")
        return None  # pycuda's name for the default stream

    def stream_number(self, stream: StreamHandle) -> int:
        return 0 if stream is None else int(stream.handle)

    def is_stream_done(self, stream: StreamHandle) -> bool:
        return bool(self._call("cuStreamQuery", _made_here(stream).is_done))

    def synchronize_stream(self, stream: StreamHandle) -> None:
        self._call("cuStreamSynchronize", _made_here(stream).synchronize)

    def destroy_stream(self, stream: StreamHandle) -> None:
        """Do nothing: pycuda frees a stream with its last reference, which the caller drops."""

    def create_event(self) -> EventHandle:
        return self._call("cuEventCreate", self._api.Event, _SLEEPING_EVENT)

    def record(self, event: EventHandle, stream: StreamHandle) -> None:
        self._call("cuEventRecord", event.record, stream)

    def wait(self, stream: StreamHandle, event: EventHandle) -> None:
        self._call("cuStreamWaitEvent", _made_here(stream).wait_for_event, event)

    def is_event_done(self, event: EventHandle) -> bool:
        return bool(self._call("cuEventQuery", event.query))

    def synchronize_event(self, event: EventHandle) -> None:
        self._call("cuEventSynchronize", event.synchronize)

    def elapsed_ms(self, start: EventHandle, end: EventHandle) -> float:
        return float(self._call("cuEventElapsedTime", end.time_since, start))

    def destroy_event(self, event: EventHandle) -> None:
        """Do nothing: pycuda frees an event with its last reference, which the caller drops."""

    def begin_capture(self, stream: StreamHandle) -> None:
        raise _unsupported("CUDA graphs")

    def end_capture(self, stream: StreamHandle) -> GraphHandle:
        raise _unsupported("CUDA graphs")

    def launch(self, graph: GraphHandle, stream: StreamHandle) -> None:
        raise _unsupported("CUDA graphs")

    def destroy_graph(self, graph: GraphHandle) -> None:
        raise _unsupported("CUDA graphs")

    def close(self) -> None:
        if self._context is not None:
            context, self._context = self._context, None
            handle = context.handle
            # pycuda releases a context in any thread only while it is current ...
            self._call("cuCtxPushCurrent", context.push)
            self._call("cuDevicePrimaryCtxRelease", context.detach)
            _pop_detached(handle)

    def _open_context(self) -> Any:
        if self._context is None:
            raise PipelineError("the CUDA device is closed; open another one.")
        return self._context

    def _call(self, name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        return _call(name, self._api, function, *arguments)


def _call(name: str, api: ModuleType, function: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except api.Error as error:  # "cuMemAlloc failed: out of memory"
        raise CudaError(name, str(error).partition("failed: ")[2] or str(error)) from error


def _pop_detached(handle: int) -> None:
    """... and then leaves it on CUDA's stack, below the previous one."""
    library = ctypes.CDLL("libcuda.so.1")
    above, popped = ctypes.c_void_p(), ctypes.c_void_p()
    library.cuCtxPopCurrent_v2(ctypes.byref(above))
    if above.value != handle:
        library.cuCtxPopCurrent_v2(ctypes.byref(popped))
        library.cuCtxPushCurrent_v2(above)


def _made_here(stream: StreamHandle) -> Any:
    if stream is None:
        raise _unsupported("the default stream other than to record an event")
    return stream


def _unsupported(what: str) -> EngineError:
    return EngineError(
        f"pycuda cannot use {what}. Install cuda-python, {package_command('cuda-python')}, and "
        "open the device with driver='cuda-python'."
    )


def _import_pycuda() -> ModuleType:
    try:
        return importlib.import_module("pycuda.driver")
    except ModuleNotFoundError:
        return require("pycuda.driver", purpose="Running on an NVIDIA GPU")
    except ImportError as error:
        raise EngineError(
            f"pycuda is installed and does not load ({error}). It needs the NVIDIA driver's "
            "libcuda.so.1, and must be built for this version of Python."
        ) from error
