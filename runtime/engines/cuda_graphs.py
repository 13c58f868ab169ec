"""CUDA graphs: an engine's work, recorded once and then launched by one call.

A launch costs the CPU one call instead of one for each kernel. A graph refers to the addresses that
it was recorded with: there is one for each set of them. It does not own the buffers, and is valid
for any others that are later allocated at the same addresses.

NVIDIA's guide to TensorRT ties a graph to the state of its execution context and advises a context
for each. Here several come from one, between which nothing is set but addresses of tensors of
static shape, as NVIDIA's own runtime TensorRT-Edge-LLM does (its ``EngineExecutor`` keeps a graph
for each set of bindings of one context); what they share is the context's scratch memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from numpy.typing import NDArray

from dff_edge.bundle.tensors import TensorSpec
from dff_edge.errors import EngineError
from dff_edge.runtime.devices.base import Buffer, Stream
from dff_edge.runtime.devices.cuda.device import CudaDevice
from dff_edge.runtime.devices.cuda.driver import CudaError
from dff_edge.runtime.devices.cuda.ledger import Handle
from dff_edge.runtime.devices.cuda.memory import CudaBuffer
from dff_edge.runtime.devices.cuda.streams import CudaStream
from dff_edge.runtime.engines.base import MAX_BINDINGS, Engine


class GraphedEngine:
    """Launches another engine's work on the GPU as CUDA graphs.

    The first ``enqueue`` with a set of buffers runs the engine itself, for its lazy initialisation;
    the second records and launches a graph, and later ones launch it. The engine's ``enqueue`` must
    not allocate or synchronise.

    Args:
        engine: enqueues on streams of ``device``; closed with this.
        device: by cuda-python.
        max_graphs: number of sets of buffers that are kept; the oldest is dropped.

    Raises:
        EngineError: the device's driver has no graphs.
    """

    def __init__(
        self, engine: Engine, device: CudaDevice, *, max_graphs: int = MAX_BINDINGS
    ) -> None:
        if not device.driver.has_graphs:
            raise EngineError(
                f"CUDA graphs of the {engine.name} engine need cuda-python, and the device was "
                f"opened with {device.driver.name}. Open it with driver='cuda-python'."
            )
        self._engine = engine
        self._device = device
        self._max_graphs = max_graphs
        self._warm: dict[tuple[int, ...], None] = {}  # an ordered set
        self._recorded: dict[tuple[int, ...], Handle] = {}

    @property
    def name(self) -> str:
        """Name of the wrapped engine."""
        return self._engine.name

    @property
    def inputs(self) -> dict[str, TensorSpec]:
        """Inputs by name."""
        return self._engine.inputs

    @property
    def outputs(self) -> dict[str, TensorSpec]:
        """Outputs by name."""
        return self._engine.outputs

    def run(self, inputs: Mapping[str, NDArray[Any]], outputs: Mapping[str, NDArray[Any]]) -> None:
        """Compute ``outputs`` from ``inputs`` in place, without a graph. See ``Engine.run``."""
        self._engine.run(inputs, outputs)

    def enqueue(
        self, inputs: Mapping[str, Buffer], outputs: Mapping[str, Buffer], stream: Stream
    ) -> None:
        """Run the engine on a stream, as a graph where it is recorded. See ``Engine.enqueue``.

        Raises:
            EngineError: the engine's work cannot be recorded.
        """
        assert isinstance(stream, CudaStream)
        buffers = (*(inputs[n] for n in self.inputs), *(outputs[n] for n in self.outputs))
        key = tuple(_pointer(buffer) for buffer in buffers)
        recorded = self._recorded.get(key)
        if recorded is None and key not in self._warm:
            _forget_oldest(self._warm, self._max_graphs)
            self._warm[key] = None
            self._engine.enqueue(inputs, outputs, stream)
            return
        with self._device.current():
            if recorded is None:
                recorded = self._record(inputs, outputs, stream)
                while len(self._recorded) >= self._max_graphs:
                    self._recorded.pop(next(iter(self._recorded))).free()
                self._recorded[key] = recorded
                del self._warm[key]
            self._device.driver.launch(recorded.get(), stream.stream)

    def close(self) -> None:
        """Free the graphs and the engine. Closing twice is allowed."""
        if self._recorded:  # the device may be closed when this is the second time
            with self._device.current(), suppress(CudaError):  # a GPU that failed frees nothing
                while self._recorded:
                    self._recorded.popitem()[1].free()
            self._recorded.clear()
        self._warm.clear()
        self._engine.close()

    def _record(
        self,
        inputs: Mapping[str, Buffer],
        outputs: Mapping[str, Buffer],
        stream: CudaStream,
    ) -> Handle:
        driver = self._device.driver
        try:
            driver.begin_capture(stream.stream)
            self._engine.enqueue(inputs, outputs, stream)
            graph = driver.end_capture(stream.stream)
        except BaseException as error:  # Ctrl-C too must leave a usable stream
            self._abandon(stream)
            if isinstance(error, Exception):
                raise self._cannot_record(error) from error
            raise
        # The owner is this engine: dropped without close, it is freed with the device's handles.
        return self._device.handles.hold(self, graph, driver.destroy_graph)

    def _abandon(self, stream: CudaStream) -> None:
        """End a capture that failed, so that the stream can be used again."""
        driver = self._device.driver
        with suppress(CudaError):  # invalid or ended already, hence abandoned
            driver.destroy_graph(driver.end_capture(stream.stream))

    def _cannot_record(self, error: Exception) -> EngineError:
        return EngineError(
            f"The {self.name} engine's work cannot be recorded as a CUDA graph: {error} Use the "
            "engine without graphs."
        )


def _pointer(buffer: Buffer) -> int:
    assert isinstance(buffer, CudaBuffer)
    return buffer.pointer


def _forget_oldest(known: dict[tuple[int, ...], Any], most: int) -> None:
    while len(known) >= most:
        del known[next(iter(known))]
