"""CUDA through NVIDIA's cuda-python."""

from __future__ import annotations

import ctypes
import importlib
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dff_edge.errors import EngineError, PipelineError, require
from dff_edge.runtime.devices.cuda.driver import (
    CudaError,
    CurrentContext,
    DeviceMemory,
    EventHandle,
    GraphHandle,
    PinnedMemory,
    StreamHandle,
)

_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING: not ordered with the default stream
# CU_EVENT_BLOCKING_SYNC: the waiting thread sleeps; by default it would keep a core busy.
_SLEEPING_EVENT = 1
_DEFAULT_PINNED = 0

_ADVICE = {
    "CUDA_ERROR_OUT_OF_MEMORY": (
        "Close other programs that use the GPU, or lower the number of frames in flight (depth)."
    ),
    "CUDA_ERROR_NO_DEVICE": (
        "CUDA_VISIBLE_DEVICES may hide it; in a container, start it with the NVIDIA runtime."
    ),
}


class CudaPythonDriver:
    """A device's primary context through ``cuda.bindings.driver``. See ``Driver``.

    Args:
        ordinal: number of the device, as ``nvidia-smi`` and CUDA_VISIBLE_DEVICES count.

    Raises:
        MissingDependencyError: cuda-python is not installed.
        EngineError: no driver, no such device.
    """

    name = "cuda-python"
    has_graphs = True

    def __init__(self, ordinal: int) -> None:
        self._api = _import_bindings()
        try:
            self._call("cuInit", 0)
        except RuntimeError as error:
            if isinstance(error, CudaError):
                raise
            raise EngineError(
                f"cuda-python found no NVIDIA driver ({error}). Install the driver; in a "
                "container, start it with the NVIDIA runtime, which brings libcuda.so.1."
            ) from error
        check_ordinal(ordinal, self._call("cuDeviceGetCount"))
        self.ordinal = ordinal
        device = self._call("cuDeviceGet", ordinal)
        self.device_name = self._call("cuDeviceGetName", 256, device).split(b"\0")[0].decode()
        attribute = self._api.CUdevice_attribute
        self.compute_capability = (
            self._call(
                "cuDeviceGetAttribute",
                attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
                device,
            ),
            self._call(
                "cuDeviceGetAttribute",
                attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
                device,
            ),
        )
        self._device: Any = device
        self._context = self._call("cuDevicePrimaryCtxRetain", device)
        self._current = CurrentContext(
            push=lambda: self._call("cuCtxPushCurrent", self._open_context()),
            pop=lambda: self._call("cuCtxPopCurrent"),
        )

    def current(self) -> CurrentContext:
        return self._current

    def memory_info(self) -> tuple[int, int]:
        free, total = self._call("cuMemGetInfo")
        return free, total

    def allocate(self, nbytes: int) -> DeviceMemory:
        pointer = self._call("cuMemAlloc", nbytes)
        return DeviceMemory(int(pointer), pointer)

    def free(self, memory: DeviceMemory) -> None:
        self._call("cuMemFree", memory.handle)

    def allocate_pinned(self, nbytes: int) -> PinnedMemory:
        address = self._call("cuMemHostAlloc", nbytes, _DEFAULT_PINNED)
        bytes_ = (ctypes.c_uint8 * nbytes).from_address(address)
        return PinnedMemory(np.ctypeslib.as_array(bytes_), address)

    def free_pinned(self, memory: PinnedMemory) -> None:
        self._call("cuMemFreeHost", memory.handle)

    def copy_in(self, pointer: int, array: NDArray[Any], stream: StreamHandle) -> None:
        self._call("cuMemcpyHtoDAsync", pointer, array.ctypes.data, array.nbytes, stream)

    def copy_out(self, array: NDArray[Any], pointer: int, stream: StreamHandle) -> None:
        self._call("cuMemcpyDtoHAsync", array.ctypes.data, pointer, array.nbytes, stream)

    def create_stream(self, priority: int) -> StreamHandle:
        return self._call("cuStreamCreateWithPriority", _NON_BLOCKING, priority)

    def foreign_stream(self, handle: int) -> StreamHandle:
        return self._api.CUstream(handle)

    def stream_number(self, stream: StreamHandle) -> int:
        return int(stream)

    def is_stream_done(self, stream: StreamHandle) -> bool:
        return self._is_done("cuStreamQuery", stream)

    def synchronize_stream(self, stream: StreamHandle) -> None:
        self._call("cuStreamSynchronize", stream)

    def destroy_stream(self, stream: StreamHandle) -> None:
        self._call("cuStreamDestroy", stream)

    def create_event(self) -> EventHandle:
        return self._call("cuEventCreate", _SLEEPING_EVENT)

    def record(self, event: EventHandle, stream: StreamHandle) -> None:
        self._call("cuEventRecord", event, stream)

    def wait(self, stream: StreamHandle, event: EventHandle) -> None:
        self._call("cuStreamWaitEvent", stream, event, 0)

    def is_event_done(self, event: EventHandle) -> bool:
        return self._is_done("cuEventQuery", event)

    def synchronize_event(self, event: EventHandle) -> None:
        self._call("cuEventSynchronize", event)

    def elapsed_ms(self, start: EventHandle, end: EventHandle) -> float:
        return float(self._call("cuEventElapsedTime", start, end))

    def destroy_event(self, event: EventHandle) -> None:
        self._call("cuEventDestroy", event)

    def begin_capture(self, stream: StreamHandle) -> None:
        # For this thread only: others go on allocating and querying events.
        mode = self._api.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        self._call("cuStreamBeginCapture", stream, mode)

    def end_capture(self, stream: StreamHandle) -> GraphHandle:
        graph = self._call("cuStreamEndCapture", stream)
        try:
            return self._call("cuGraphInstantiate", graph, 0)
        finally:
            self._call("cuGraphDestroy", graph)

    def launch(self, graph: GraphHandle, stream: StreamHandle) -> None:
        self._call("cuGraphLaunch", graph, stream)

    def destroy_graph(self, graph: GraphHandle) -> None:
        self._call("cuGraphExecDestroy", graph)

    def close(self) -> None:
        if self._device is not None:
            device, self._device = self._device, None
            self._call("cuDevicePrimaryCtxRelease", device)

    def _open_context(self) -> Any:
        if self._device is None:
            raise PipelineError("the CUDA device is closed; open another one.")
        return self._context

    def _call(self, name: str, *arguments: Any) -> Any:
        """Call a driver function; return its result, or the tuple of several; raise CudaError."""
        status, *results = getattr(self._api, name)(*arguments)
        if int(status) != 0:
            raise self._error(name, status)
        return results[0] if len(results) == 1 else tuple(results)

    def _is_done(self, query: str, handle: Any) -> bool:
        (status,) = getattr(self._api, query)(handle)
        if status == self._api.CUresult.CUDA_ERROR_NOT_READY:
            return False
        if int(status) != 0:
            raise self._error(query, status)
        return True

    def _error(self, call: str, status: Any) -> CudaError:
        _, text = self._api.cuGetErrorString(status)
        told = f" ({text.decode()})" if text else ""
        return CudaError(call, f"{status.name}{told}", _ADVICE.get(status.name, ""))


def check_ordinal(ordinal: int, count: int) -> None:
    """Raise unless there is a device of this number.

    Raises:
        EngineError: reports how many devices there are.
    """
    if not 0 <= ordinal < count:
        there = "there is no GPU" if count == 0 else f"there are {count}, numbered from 0"
        raise EngineError(
            f"CUDA device {ordinal} was requested and {there}. CUDA_VISIBLE_DEVICES says which "
            "this process may see."
        )


def _import_bindings() -> ModuleType:
    try:
        return importlib.import_module("cuda.bindings.driver")
    except ModuleNotFoundError:
        pass
    try:  # before 12.6
        return importlib.import_module("cuda.cuda")
    except ModuleNotFoundError:
        return require("cuda.bindings.driver", purpose="Running on an NVIDIA GPU")
