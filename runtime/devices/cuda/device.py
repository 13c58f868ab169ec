"""An NVIDIA GPU as a device. See ``runtime.devices.base`` for the terms."""

from __future__ import annotations

import importlib.util
from functools import partial
from typing import Any

import numpy as np

from dff_edge.bundle.levels import MapLevels
from dff_edge.bundle.tensors import TensorSpec
from dff_edge.errors import ConfigError, MissingDependencyError, PipelineError, ShapeError
from dff_edge.lifetime import Closing, bind
from dff_edge.names import DRIVERS, DriverName
from dff_edge.packages import package_command
from dff_edge.runtime.devices.base import Buffer, Stream
from dff_edge.runtime.devices.cuda.context import CudaContext
from dff_edge.runtime.devices.cuda.cuda_python import CudaPythonDriver
from dff_edge.runtime.devices.cuda.driver import CudaError, Driver
from dff_edge.runtime.devices.cuda.frames import DeviceImage, is_device_image, take_image
from dff_edge.runtime.devices.cuda.kernels import ELEMENTS, Kernels
from dff_edge.runtime.devices.cuda.ledger import Ledger
from dff_edge.runtime.devices.cuda.memory import ArrayPool, DeviceArray
from dff_edge.runtime.devices.cuda.memory import CudaBuffer as CudaBuffer
from dff_edge.runtime.devices.cuda.pycuda_driver import PycudaDriver
from dff_edge.runtime.devices.cuda.streams import CudaHostStream, CudaStream, ExternalStream
from dff_edge.runtime.kernels.resize import check_image


def open_device(driver: DriverName | None = None, ordinal: int = 0) -> CudaDevice:
    """Open a GPU.

    Args:
        driver: the package to use; ``None`` uses cuda-python where it is installed, and
            pycuda otherwise.
        ordinal: number of the GPU.

    Raises:
        ConfigError: for another driver.
        MissingDependencyError: neither package is installed, or not the requested one.
        EngineError: no NVIDIA driver, or no such GPU.
    """
    if driver is None:
        driver = _installed_driver()
    if driver == "cuda-python":
        return CudaDevice(CudaPythonDriver(ordinal))
    if driver == "pycuda":
        return CudaDevice(PycudaDriver(ordinal))
    raise ConfigError(f"driver is '{driver}', expected one of {', '.join(DRIVERS)}.")


class CudaDevice(CudaContext, Closing):
    """A GPU. Devices of the same GPU share its primary context, but must not exchange objects.

    Attributes:
        name: for example "Orin".
        compute_capability: for example (8, 7).
    """

    copies = True

    def __init__(self, driver: Driver) -> None:
        super().__init__(driver)
        self.name = driver.device_name
        self.compute_capability = driver.compute_capability
        self._arrays = ArrayPool(driver)
        self._kernels: Kernels | None = None
        self._intake: CudaStream | None = None
        self._end = bind(
            self, dropped=partial(_close, driver, self.handles, self.memory, self._arrays)
        )

    @property
    def kernels(self) -> Kernels:
        """The CUDA kernels, loaded at first use.

        Raises:
            MissingDependencyError: when they were not built.
        """
        if self._kernels is None:
            self._kernels = Kernels()
        return self._kernels

    def stream(self, name: str, *, priority: int = 0) -> CudaStream:
        self._check_open()
        return CudaStream(self, name, priority=priority)

    def external_stream(self, handle: int, name: str = "external") -> ExternalStream:
        """Wrap a stream made elsewhere, so that it can be waited for or wait."""
        return ExternalStream(self, handle, name)

    def host_stream(self, name: str) -> CudaHostStream:
        self._check_open()
        return CudaHostStream(self, name)

    def buffer(self, spec: TensorSpec, *, host: bool = False) -> CudaBuffer:
        self._check_open()
        with self.current():
            self.memory.free_dropped()
        return CudaBuffer(self, spec, host=host)

    def copy_in(self, buffer: Buffer, stream: Stream) -> None:
        """Enqueue the copy from ``buffer.array`` to the device."""
        cuda_buffer, cuda_stream = self._buffer(buffer), _cuda_stream(stream)
        with self.current():
            self.driver.copy_in(cuda_buffer.pointer, cuda_buffer.array, cuda_stream.stream)

    def copy_out(self, buffer: Buffer, stream: Stream) -> None:
        """Enqueue the copy from the device to ``buffer.array``."""
        cuda_buffer, cuda_stream = self._buffer(buffer), _cuda_stream(stream)
        with self.current():
            self.driver.copy_out(cuda_buffer.array, cuda_buffer.pointer, cuda_stream.stream)

    def check_image(self, image: Any) -> Any:
        """Return an image in the form that a frame may hold.

        numpy arrays are treated as on the CPU; arrays of this GPU that have
        ``__cuda_array_interface__`` or DLPack are read in place. See ``frames.py``.

        Raises:
            FrameError: for anything else.
        """
        if isinstance(image, DeviceImage):
            return image
        if isinstance(image, np.ndarray) or not is_device_image(image):
            return check_image(image)
        if self._intake is None:
            self._intake = self.stream("intake")
        return take_image(image, self, self._intake)

    def warp(
        self,
        features: Buffer,
        flow: Buffer,
        scale: Buffer | None,
        out: Buffer,
        stream: Stream,
        levels: MapLevels | None = None,
    ) -> None:
        """Enqueue feature propagation, Eq. (3).

        Args:
            features: float32 or float16 ``(N, h, w, C)``, or int8 with levels.
            flow: float32 ``(N, h, w, 2)``, ``(dx, dy)`` in feature cells.
            scale: like features; ``None`` for one everywhere.
            out: like features; it overlaps none of them.
            stream: the stream to enqueue on.
            levels: quantisation of int8 maps; their zeros must be 0.

        Raises:
            ShapeError: buffers that do not fit each other.
            ConfigError: levels with float maps, no levels with int8 maps, or a zero that is
                not 0.
        """
        shape, dtype = self._check_maps(features, flow, scale, out)
        scale_step = _scale_step(dtype, levels)
        with self.current():
            self.kernels.warp(
                self._buffer(features).pointer,
                self._buffer(flow).pointer,
                None if scale is None else self._buffer(scale).pointer,
                self._buffer(out).pointer,
                shape,
                dtype,
                scale_step,
                _cuda_stream(stream).handle,
            )

    def resize(self, image: DeviceImage, out: Buffer, stream: Stream) -> None:
        """Enqueue the resizing of an image to ``out``, uint8 ``(1, H, W, 3)``."""
        buffer, cuda_stream = self._buffer(out), _cuda_stream(stream)
        if image.ready is not None:
            cuda_stream.wait(image.ready)
        size, out_size = image.shape[:2], (buffer.spec.shape[1], buffer.spec.shape[2])
        with self.current():
            self.kernels.resize(
                image.pointer, size, image.row_bytes, buffer.pointer, out_size, cuda_stream.handle
            )

    def decode(
        self, scores: Buffer, size: tuple[int, int], stream: Stream, *, confidence: bool
    ) -> tuple[DeviceArray, DeviceArray | None]:
        """Enqueue the decoding of float32 scores ``(1, h, w, K)``.

        Returns:
            Labels uint8 of ``size`` and their confidence or None, on the device, owned by the
            receiver.
        """
        buffer, cuda_stream = self._buffer(scores), _cuda_stream(stream)
        labels = self._arrays.array(size)
        sureness = self._arrays.array(size) if confidence else None
        _, height, width, classes = buffer.spec.shape
        with self.current():
            self.kernels.decode(
                buffer.pointer,
                (height, width, classes),
                labels.pointer,
                size,
                None if sureness is None else sureness.pointer,
                cuda_stream.handle,
            )
        return labels, sureness

    def close(self) -> None:
        """Free everything: streams, events, buffers; closing twice is allowed.

        Results that were handed out stay valid until they are released.
        """
        if self._intake is not None:
            self._intake.close()
        self._end()

    def _check_open(self) -> None:
        if not self._end.alive:
            raise PipelineError("the CUDA device is closed; open another one.")

    def _buffer(self, buffer: Buffer) -> CudaBuffer:
        if not isinstance(buffer, CudaBuffer) or buffer.device is not self:
            raise ShapeError(
                f"'{buffer.spec.name}' is a {type(buffer).__name__} of another device, expected "
                "one of this device's buffer()."
            )
        return buffer

    def _check_maps(
        self, features: Buffer, flow: Buffer, scale: Buffer | None, out: Buffer
    ) -> tuple[tuple[int, int, int, int], np.dtype[Any]]:
        spec = features.spec
        if len(spec.shape) != 4 or spec.dtype not in ELEMENTS:
            raise ShapeError(
                f"features are {spec}, expected (N, h, w, C) of float32, float16 or int8."
            )
        n, h, w, channels = spec.shape
        if flow.spec.shape != (n, h, w, 2) or flow.spec.dtype != np.float32:
            raise ShapeError(
                f"flow is {flow.spec}, expected float32 {(n, h, w, 2)} to match the features."
            )
        for role, buffer in (("scale", scale), ("out", out)):
            if buffer is not None and (
                buffer.spec.shape != spec.shape or buffer.spec.dtype != spec.dtype
            ):
                raise ShapeError(f"{role} is {buffer.spec}, expected that of features, {spec}.")
        return (n, h, w, channels), spec.dtype


def _installed_driver() -> DriverName:
    if _is_installed("cuda.bindings.driver") or _is_installed("cuda.cuda"):
        return "cuda-python"
    if _is_installed("pycuda.driver"):
        return "pycuda"
    raise MissingDependencyError(
        "Running on an NVIDIA GPU needs cuda-python or pycuda, and neither is installed. Install "
        f"one with: {package_command('cuda-python')}"
    )


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of a package above it
        return False


def _close(driver: Driver, handles: Ledger, memory: Ledger, arrays: ArrayPool) -> None:
    with driver.current():
        # Memory first, for CUDA then waits for all work: no thread is left waiting for an event.
        errors = [*memory.free_all(), *handles.free_all()]
        if errors and not _works(driver):
            errors = []  # after a failure, which a stream has reported, CUDA frees nothing
    arrays.close()  # and the driver, when no array is held any more
    if errors:
        raise errors[0]


def _works(driver: Driver) -> bool:
    try:
        driver.memory_info()
    except CudaError:
        return False
    return True


def _cuda_stream(stream: Stream) -> CudaStream:
    if not isinstance(stream, CudaStream):
        raise PipelineError(
            f"'{stream.name}' is a {type(stream).__name__}, expected a stream of the GPU: "
            "device.stream(name)."
        )
    return stream


def _scale_step(dtype: np.dtype[Any], levels: MapLevels | None) -> float:
    """Return the step of int8 scale bytes; 1 for other maps."""
    if (levels is not None) != (dtype == np.int8):
        given = "levels" if levels is not None else "no levels"
        raise ConfigError(
            f"{given} came with maps of {dtype}, expected levels with int8 maps and no others. "
            "On GPUs INT8 is symmetric int8: use the bundle's trt flavour."
        )
    if levels is None:
        return 1.0
    if (levels.features.zero, levels.scale.zero) != (0, 0):
        raise ConfigError(
            f"the zeros of features and scale are {levels.features.zero} and {levels.scale.zero}, "
            "expected 0 and 0: on GPUs INT8 is symmetric. Use the bundle's trt flavour."
        )
    return levels.scale.step
