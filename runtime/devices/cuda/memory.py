"""Memory on the device: buffers of tensors, and arrays handed to the caller."""

from __future__ import annotations

import math
import weakref
from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dff_edge import _native
from dff_edge.bundle.tensors import TensorSpec
from dff_edge.errors import ShapeError
from dff_edge.runtime.devices.cuda.context import CudaContext
from dff_edge.runtime.devices.cuda.driver import CudaError, DeviceMemory, Driver, PinnedMemory
from dff_edge.runtime.devices.cuda.ledger import Handle

_DLPACK_CUDA = 2  # kDLCUDA
_DLPACK_UINT = 1  # kDLUInt
_MAX_KEPT = 32  # freed blocks that are kept for reuse


class CudaBuffer:
    """Memory of one tensor on the device; made by ``CudaDevice.buffer``.

    Attributes:
        spec: name, dtype and shape.
        pointer: address on the device.
        nbytes: size.

    Args:
        device: allocates and frees the memory.
        spec: of the tensor.
        host: whether to allocate pinned host memory beside it.
    """

    def __init__(self, device: CudaContext, spec: TensorSpec, *, host: bool = False) -> None:
        driver = device.driver
        self.spec = spec
        self.nbytes = math.prod(spec.shape) * spec.dtype.itemsize
        self._device = device  # must outlive its buffers
        self._pinned: Handle | None = None
        size = max(self.nbytes, 1)  # CUDA allocates nothing of size zero
        with driver.current():
            memory = _allocate(driver, size, f"tensor {spec}")
            device.memory.hold(self, memory, driver.free)
            if host:
                self._pinned = device.memory.hold(
                    self, driver.allocate_pinned(size), driver.free_pinned
                )
        self.pointer = memory.pointer

    @property
    def array(self) -> NDArray[Any]:
        """The pinned host memory; its arrays must not be used after the buffer or device is closed.

        Raises:
            ShapeError: when there is none.
            PipelineError: when the device is closed.
        """
        if self._pinned is None:
            raise ShapeError(
                f"'{self.spec.name}' is on the device only, expected a buffer that the host can "
                "access. Make it with device.buffer(spec, host=True)."
            )
        pinned: PinnedMemory = self._pinned.get()
        return pinned.array[: self.nbytes].view(self.spec.dtype).reshape(self.spec.shape)

    @property
    def device(self) -> CudaContext:
        """The device that it is on."""
        return self._device

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return _interface(self.pointer, self.spec.shape, self.spec.dtype)


class DeviceArray:
    """An array on the device that belongs to its receiver: a label map or a confidence map.

    CuPy, torch and others use it without a copy (``cupy.asarray``, ``torch.from_dlpack``). Its
    memory is reused when the last reference is gone; work that reads it must be done by then.

    Attributes:
        shape: for example ``(H, W)``.
        dtype: uint8.
        pointer: address on the device.
    """

    def __init__(self, pool: ArrayPool, memory: DeviceMemory, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self.dtype = np.dtype(np.uint8)
        self.pointer = memory.pointer
        self._pool = pool

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return math.prod(self.shape)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return _interface(self.pointer, self.shape, self.dtype)

    def __dlpack_device__(self) -> tuple[int, int]:
        return _DLPACK_CUDA, self._pool.driver.ordinal

    def __dlpack__(
        self,
        *,
        stream: int | None = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> object:
        """Return a DLPack capsule, unversioned.

        Results are written when they are handed out: there is nothing for ``stream`` to wait for.

        Raises:
            BufferError: for a copy or another device.
        """
        if copy or dl_device not in (None, self.__dlpack_device__()):
            raise BufferError(
                f"a copy, or one on device {dl_device}, was requested; a label map is handed out "
                f"as it is on device {self.__dlpack_device__()}. Copy it afterwards."
            )
        return _native.export_dlpack(
            self, self.pointer, self.shape, _DLPACK_UINT, 8, *self.__dlpack_device__()
        )

    def copy_to_host(self) -> NDArray[np.uint8]:
        """Return a copy in host memory; waits for it."""
        return self._pool.copy_to_host(self)


class ArrayPool:
    """Blocks of device memory that are handed out and reused.

    Arrays that are still held by their receivers when the device closes stay valid: the last one to
    be released frees the rest.

    Args:
        driver: allocates; closed when the pool is closed and no array is held any more.
    """

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self._free: dict[int, deque[DeviceMemory]] = {}  # by size
        self._given: set[int] = set()  # addresses
        self._is_closed = False
        self._closings = deque([driver.close])  # popped by the thread that closes

    def array(self, shape: tuple[int, ...]) -> DeviceArray:
        """Return a uint8 array, contents undefined; allocates if no block of its size is free."""
        memory = self._take(math.prod(shape))
        array = DeviceArray(self, memory, shape)
        self._given.add(memory.pointer)
        weakref.finalize(array, self._give_back, math.prod(shape), memory).atexit = False
        return array

    def copy_to_host(self, array: DeviceArray) -> NDArray[np.uint8]:
        """Return a copy of an array in host memory; waits for it."""
        driver = self.driver
        with driver.current():
            pinned = driver.allocate_pinned(array.nbytes)
            stream = driver.create_stream(0)
            try:
                driver.copy_out(pinned.array, array.pointer, stream)
                driver.synchronize_stream(stream)
                copy: NDArray[np.uint8] = pinned.array.reshape(array.shape).copy()
                return copy
            finally:
                driver.destroy_stream(stream)
                driver.free_pinned(pinned)

    def close(self) -> None:
        """Free unused blocks now, and the others when released. Closing twice is allowed."""
        if not self._is_closed:
            self._is_closed = True
            self._close_when_unused()

    # Arrays are released in any thread, at any moment: each step on the collections is atomic.

    def _take(self, size: int) -> DeviceMemory:
        try:
            return self._free[size].popleft()
        except (KeyError, IndexError):
            pass
        with self.driver.current():
            if sum(map(len, list(self._free.values()))) >= _MAX_KEPT:
                self._free_blocks()
            return _allocate(self.driver, size, "a result on the device")

    def _give_back(self, size: int, memory: DeviceMemory) -> None:
        self._free.setdefault(size, deque()).append(memory)
        self._given.discard(memory.pointer)
        if self._is_closed:
            self._close_when_unused()

    def _close_when_unused(self) -> None:
        if self._given:
            return
        try:
            close = self._closings.pop()
        except IndexError:  # another thread released the last array at the same moment
            return
        try:
            with self.driver.current():
                self._free_blocks()
        except CudaError:
            pass  # after a failure CUDA frees all with the context
        close()

    def _free_blocks(self) -> None:
        for blocks in list(self._free.values()):
            while blocks:
                self.driver.free(blocks.popleft())


def _allocate(driver: Driver, size: int, purpose: str) -> DeviceMemory:
    try:
        return driver.allocate(size)
    except CudaError as error:
        free, total = driver.memory_info()
        raise CudaError(
            error.call,
            error.reason,
            f"{size} bytes were wanted for {purpose}, {free} of {total} are free. Close other "
            "programs that use the GPU, or lower the number of frames in flight (depth).",
        ) from error


def _interface(pointer: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> dict[str, Any]:
    # Of version 3; no stream: the array is written before it is handed out.
    return {
        "shape": shape,
        "typestr": dtype.str,
        "data": (pointer, False),
        "strides": None,
        "stream": None,
        "version": 3,
    }
