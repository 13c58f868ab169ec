"""ONNX Runtime's CUDA provider on buffers of the device, in order with its streams.

The session has one stream of its own, for life: the provider takes a stream when it is opened.
Work is handed over by events, so that nobody waits on the CPU::

    stream  --record--> begun --wait-->  own stream: the graph  --record--> done --wait--> stream
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from dff_edge.errors import EngineError, PipelineError, require, words_of
from dff_edge.lifetime import bind
from dff_edge.runtime.engines.base import (
    CUDA_PROVIDER,
    Bindings,
    TensorSpec,
    check_arrays,
    open_session,
    session_specs,
)
from dff_edge.runtime.engines.device_io import Staging, check_buffers

if TYPE_CHECKING:
    from dff_edge.runtime.devices.base import Buffer, Stream
    from dff_edge.runtime.devices.cuda.device import CudaDevice


class OrtCudaEngine:
    """A graph in ONNX Runtime on a GPU, FP32 or FP16.

    Args:
        graph_bytes: the ONNX file's bytes, verified (``Bundle.graph_bytes``).
        name: what messages call the graph, for example ``"fp16 feature"``.
        device: whose buffers and streams are taken. It must outlive this.
        priority: of the session's stream, as ``CudaDevice.stream`` takes it.

    Raises:
        MissingDependencyError: when onnxruntime is not installed.
        EngineError: when the provider is not available or did not take the whole graph, the
            graph could not be loaded, or it is an integer one.
    """

    def __init__(
        self, graph_bytes: bytes, *, name: str, device: CudaDevice, priority: int = 0
    ) -> None:
        self.name = name
        self._device = device
        self._staging: Staging | None = None
        self._session: Any = None
        refuse_integers(graph_bytes, name)
        ort = load_onnxruntime(f"Running the {name} graph")
        self._stream = device.stream(f"{name} in ONNX Runtime", priority=priority)
        try:
            with device.current():
                session = open_session(
                    graph_bytes,
                    name=name,
                    threads=1,
                    provider=CUDA_PROVIDER,
                    provider_options=self._provider_options(),
                )
            self._inputs, self._outputs = session_specs(session, name)
        except BaseException:
            self._stream.close()
            raise
        self._session = session
        self._bindings = Bindings(
            session, self._inputs, self._outputs, device="cuda", ordinal=device.ordinal
        )
        # The graph's end is an event's matter, not the caller's.
        self._run_options = ort.RunOptions()
        self._run_options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        self._begun = self._stream.event()
        self._done = self._stream.event()
        bind(self)

    @property
    def inputs(self) -> dict[str, TensorSpec]:
        """Inputs by name; do not change it."""
        return self._inputs

    @property
    def outputs(self) -> dict[str, TensorSpec]:
        """Outputs by name; do not change it."""
        return self._outputs

    def run(self, inputs: Mapping[str, NDArray[Any]], outputs: Mapping[str, NDArray[Any]]) -> None:
        """Compute ``outputs`` from ``inputs`` in place, through copies. See ``Engine.run``."""
        self._check_open()
        check_arrays(self, inputs, outputs)
        if self._staging is None:
            self._staging = Staging(self, self._device)
        self._staging.run(inputs, outputs)

    def enqueue(
        self, inputs: Mapping[str, Buffer], outputs: Mapping[str, Buffer], stream: Stream
    ) -> None:
        """Have the graph run on the session's stream, between what is on ``stream`` and what comes.

        Raises:
            ShapeError: when a buffer is missing or does not fit its spec.
            EngineError: when the run fails, or the engine is closed.
        """
        self._check_open()
        binding = self._bindings[tuple(check_buffers(self, inputs, outputs).values())]
        stream.record(self._begun)
        self._stream.wait(self._begun)
        try:
            with self._device.current():
                self._session.run_with_iobinding(binding, self._run_options)
        except Exception as error:  # pybind raises one class for each native status
            raise EngineError(f"The {self.name} graph failed: {words_of(error)}") from error
        self._stream.record(self._done)
        stream.wait(self._done)

    def close(self) -> None:
        """Free the graph. Closing twice is allowed; running afterwards is not."""
        if self._session is None:
            return
        with suppress(PipelineError):  # it came out of the run's stream; closing always works
            self._stream.synchronize()  # the session's memory is in use until then
        with self._device.current():
            self._bindings.clear()
            self._session = None
        if self._staging is not None:
            self._staging.close()
        self._stream.close()

    def __enter__(self) -> OrtCudaEngine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _provider_options(self) -> dict[str, str]:
        return {
            "device_id": str(self._device.ordinal),
            "user_compute_stream": str(self._stream.handle),
            "arena_extend_strategy": "kSameAsRequested",
            "use_tf32": "0",  # FP32 means FP32; who wants it faster takes FP16
        }

    def _check_open(self) -> None:
        if self._session is None:
            raise EngineError(f"The {self.name} engine is closed; open a new one to run it.")


def load_onnxruntime(purpose: str) -> Any:
    """Import onnxruntime, and the libraries that its CUDA provider needs.

    Raises:
        MissingDependencyError: when it is not installed.
    """
    ort = require("onnxruntime", extra="cuda", purpose=purpose)
    if hasattr(ort, "preload_dlls"):  # since 1.21: finds CUDA and cuDNN in pip's packages
        ort.preload_dlls()
    return ort


def refuse_integers(graph_bytes: bytes, name: str) -> None:
    """Refuse a quantised graph, which the CUDA provider would compute in float, and slower.

    Raises:
        EngineError: when the graph holds QuantizeLinear or DequantizeLinear nodes.
    """
    # An operator's name is plain text in the file. Reading protobuf for it needs a package that
    # a device does not have.
    if b"QuantizeLinear" in graph_bytes or b"DequantizeLinear" in graph_bytes:
        raise EngineError(
            f"The {name} graph is quantised, and ONNX Runtime's CUDA provider has no integer "
            "convolution (QLinearConv): it would dequantise each input and compute in FP32. Use "
            "fp16 here, or int8 with TensorRT: dff-edge deploy BUNDLE --target tensorrt"
        )
