"""Engines of a GPU: they run on buffers of the device, or on host arrays through copies."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from numpy.typing import NDArray

from dff_edge.bundle.tensors import TensorSpec
from dff_edge.errors import ShapeError
from dff_edge.runtime.devices.base import Buffer, Stream
from dff_edge.runtime.engines.base import BaseEngine, Engine, check_names

if TYPE_CHECKING:
    from dff_edge.runtime.devices.cuda.device import CudaBuffer, CudaDevice


class CudaEngine(BaseEngine):
    """An engine of a GPU. A kind of them enqueues its graph in ``_enqueue``.

    Args:
        name, inputs, outputs: as of ``BaseEngine``.
        device: the device of the buffers and streams. It must outlive this.
    """

    def __init__(
        self,
        name: str,
        inputs: dict[str, TensorSpec],
        outputs: dict[str, TensorSpec],
        device: CudaDevice,
    ) -> None:
        self._device = device
        self._staging: Staging | None = None
        super().__init__(name, inputs, outputs)

    def enqueue(
        self, inputs: Mapping[str, Buffer], outputs: Mapping[str, Buffer], stream: Stream
    ) -> None:
        """Run the graph on a stream. See ``Engine.enqueue``.

        Raises:
            ShapeError: when a buffer is missing or does not fit its spec.
            EngineError: when the run is refused, or the engine is closed.
        """
        self._check_open()
        self._enqueue(check_buffers(self, inputs, outputs), stream)

    @abstractmethod
    def _enqueue(self, pointers: dict[str, int], stream: Stream) -> None:
        """Enqueue a run.

        Args:
            pointers: device address of each tensor by name, inputs before outputs.
            stream: the stream to enqueue on.
        """

    def _compute(
        self,
        inputs: Mapping[str, NDArray[Any]],
        outputs: Mapping[str, NDArray[Any]],
        addresses: tuple[int, ...],
    ) -> None:
        if self._staging is None:
            self._staging = Staging(self, self._device)
        self._staging.run(inputs, outputs)

    def _free(self) -> None:
        if self._staging is not None:
            self._staging.close()
            self._staging = None


def check_buffers(
    engine: Engine, inputs: Mapping[str, Buffer], outputs: Mapping[str, Buffer]
) -> dict[str, int]:
    """Check the arguments of ``Engine.enqueue``.

    Returns:
        Device address of each tensor by name, inputs before outputs, in the engine's order.

    Raises:
        ShapeError: when a buffer is missing or does not fit its spec.
    """
    addresses: dict[str, int] = {}
    for role, specs, buffers in (
        ("input", engine.inputs, inputs),
        ("output", engine.outputs, outputs),
    ):
        check_names(engine, role, specs, buffers)
        for name, spec in specs.items():
            buffer = buffers[name]
            # The name may differ: one engine's output is the next one's input.
            if buffer.spec.shape != spec.shape or buffer.spec.dtype != spec.dtype:
                raise ShapeError(
                    f"{engine.name}: the buffer for '{name}' is {buffer.spec.dtype} "
                    f"{buffer.spec.shape}, expected {spec.dtype} {spec.shape}."
                )
            addresses[name] = cast("CudaBuffer", buffer).pointer
    return addresses


class Staging:
    """Device memory for all tensors of an engine, and a stream: for checks, not for speed.

    Args:
        engine: runs on the device.
        device: allocates the memory.
    """

    def __init__(self, engine: Engine, device: CudaDevice) -> None:
        self._engine = engine
        self._device = device
        self._stream = device.stream(f"{engine.name} staging")
        self._inputs = {n: device.buffer(s, host=True) for n, s in engine.inputs.items()}
        self._outputs = {n: device.buffer(s, host=True) for n, s in engine.outputs.items()}

    def run(self, inputs: Mapping[str, NDArray[Any]], outputs: Mapping[str, NDArray[Any]]) -> None:
        """Copy in, run, copy out, and wait for it. Arrays are checked first."""
        for name, buffer in self._inputs.items():
            buffer.array[...] = inputs[name]
            self._device.copy_in(buffer, self._stream)
        self._engine.enqueue(self._inputs, self._outputs, self._stream)
        for buffer in self._outputs.values():
            self._device.copy_out(buffer, self._stream)
        self._stream.synchronize()
        for name, buffer in self._outputs.items():
            outputs[name][...] = buffer.array

    def close(self) -> None:
        """End the stream; the memory is freed with its last reference."""
        self._stream.close()
