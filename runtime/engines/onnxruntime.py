"""ONNX Runtime: sessions, bindings to memory, and the engine on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dff_edge.bundle.tensors import TensorSpec
from dff_edge.cpuinfo import overflows_here
from dff_edge.errors import EngineError, require, words_of
from dff_edge.packages import package_command
from dff_edge.runtime.engines.base import MAX_BINDINGS, BaseEngine, thread_count, usable_cores
from dff_edge.runtime.engines.float_mode import kept_float_mode

CPU_PROVIDER = "CPUExecutionProvider"
CUDA_PROVIDER = "CUDAExecutionProvider"

_PROVIDER_PACKAGES = {
    CPU_PROVIDER: "onnxruntime",
    CUDA_PROVIDER: "onnxruntime-gpu",
    "TensorrtExecutionProvider": "onnxruntime-gpu",  # with TensorRT 10 beside
    "OpenVINOExecutionProvider": "onnxruntime-openvino",
    "DmlExecutionProvider": "onnxruntime-directml",
}


class OrtEngine(BaseEngine):
    """A graph in ONNX Runtime.

    Args:
        graph_bytes: the ONNX file's bytes, verified (``Bundle.graph_bytes``).
        name: name of the graph in messages, for example ``"int8 feature"``.
        threads: threads of one run; ``None`` means the cores this process may use.
        provider: the execution provider that must run the whole graph. There is no
            fallback: if another provider is chosen, that is an error.

    Raises:
        MissingDependencyError: when onnxruntime is not installed.
        EngineError: when the provider is not available or did not accept the graph, or
            the graph could not be loaded.
    """

    def __init__(
        self,
        graph_bytes: bytes,
        *,
        name: str,
        threads: int | None = None,
        provider: str = CPU_PROVIDER,
    ) -> None:
        session = open_session(graph_bytes, name=name, threads=threads, provider=provider)
        inputs, outputs = session_specs(session, name)
        self.provider = provider
        self._session: Any = session
        self._bindings = Bindings(session, inputs, outputs)
        super().__init__(name, inputs, outputs)

    def _compute(
        self,
        inputs: Mapping[str, NDArray[Any]],
        outputs: Mapping[str, NDArray[Any]],
        addresses: tuple[int, ...],
    ) -> None:
        try:
            self._session.run_with_iobinding(self._bindings[addresses])
        except Exception as error:  # pybind raises one class for each native status
            raise EngineError(f"The {self.name} graph failed: {words_of(error)}") from error

    def _free(self) -> None:
        self._bindings.clear()
        self._session = None


class Bindings:
    """Bindings of a session to memory, created on first use.

    Args:
        session: from ``open_session``.
        inputs: its inputs by name.
        outputs: its outputs by name.
        device: where the memory is, as ONNX Runtime names it.
        ordinal: number of the device.
    """

    def __init__(
        self,
        session: Any,
        inputs: Mapping[str, TensorSpec],
        outputs: Mapping[str, TensorSpec],
        *,
        device: str = "cpu",
        ordinal: int = 0,
    ) -> None:
        self._session = session
        self._inputs = inputs
        self._outputs = outputs
        self._place = (device, ordinal)
        # Keyed by the addresses alone: names, dtypes and shapes are the specs'.
        self._kept: dict[tuple[int, ...], Any] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def __getitem__(self, addresses: tuple[int, ...]) -> Any:
        """Return the binding to tensors at these addresses, inputs before outputs."""
        binding = self._kept.get(addresses)
        if binding is None:
            if len(self._kept) >= MAX_BINDINGS:
                del self._kept[next(iter(self._kept))]  # the oldest
            binding = self._kept[addresses] = self._bind(addresses)
        return binding

    def clear(self) -> None:
        """Drop all bindings, and the session."""
        self._kept.clear()
        self._session = None

    def _bind(self, addresses: tuple[int, ...]) -> Any:
        binding = self._session.io_binding()
        count = len(self._inputs)
        for spec, address in zip(self._inputs.values(), addresses[:count], strict=True):
            binding.bind_input(spec.name, *self._place, spec.dtype.type, spec.shape, address)
        for spec, address in zip(self._outputs.values(), addresses[count:], strict=True):
            binding.bind_output(spec.name, *self._place, spec.dtype.type, spec.shape, address)
        return binding


def open_session(
    graph_bytes: bytes,
    *,
    name: str,
    threads: int | None = None,
    provider: str = CPU_PROVIDER,
    provider_options: Mapping[str, str] | None = None,
) -> Any:
    """Load a graph in ONNX Runtime.

    Args:
        graph_bytes: the ONNX file's bytes, verified.
        name: name of the graph in messages.
        threads: of one run; ``None`` means the cores this process may use.
        provider: the execution provider that must run the whole graph.
        provider_options: of that provider.

    Raises:
        MissingDependencyError: when onnxruntime is not installed.
        EngineError: see ``OrtEngine``.
    """
    extra = "cuda" if provider == CUDA_PROVIDER else "cpu"
    ort = require("onnxruntime", extra=extra, purpose=f"Running the {name} graph")
    threads = thread_count(threads, name)
    _check_available(provider, ort.get_available_providers(), name)
    options = session_options(ort, threads)
    if provider != CPU_PROVIDER:
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    asked = (provider, dict(provider_options)) if provider_options else provider
    try:
        with kept_float_mode():
            session = ort.InferenceSession(graph_bytes, sess_options=options, providers=[asked])
    except Exception as error:  # pybind raises one class for each native status
        raise EngineError(
            f"ONNX Runtime {ort.__version__} could not load the {name} graph with "
            f"{provider}: {words_of(error)}"
        ) from error
    session.disable_fallback()
    check_provider(session, provider, name)
    return session


def check_provider(session: Any, provider: str, name: str) -> None:
    """Raise when ONNX Runtime silently chose another provider for a session.

    Raises:
        EngineError: when the session does not run on the provider.
    """
    taken = session.get_providers()
    if taken[:1] != [provider]:
        raise EngineError(
            f"{provider} was requested for the {name} graph and did not accept it; ONNX "
            f"Runtime chose {', '.join(taken)}. Usually a library of the provider could not be "
            f"loaded; it comes with: {_package_of(provider)}"
        )


def session_options(ort: Any, threads: int | None = None) -> Any:
    """Return the options of ``open_session``, for sessions that are opened elsewhere.

    Args:
        ort: the module onnxruntime.
        threads: of one run; ``None`` means the cores this process may use.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or usable_cores()
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3  # errors
    # Several sessions share the cores: threads that spin while another session
    # computes make both half as fast.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.set_denormal_as_zero", "1")
    if overflows_here():
        # Where 8-bit weights may let sums of two products overflow, kernels without such sums are
        # used. Asked for nowhere else: with VNNI it would cost speed and change no result.
        options.add_session_config_entry("session.x64quantprecision", "1")
    return options


def session_specs(session: Any, name: str) -> tuple[dict[str, TensorSpec], dict[str, TensorSpec]]:
    """Return inputs and outputs of a session by name.

    Raises:
        EngineError: when one is not a plain tensor of static shape.
    """
    inputs = {value.name: _spec_of(value, name) for value in session.get_inputs()}
    outputs = {value.name: _spec_of(value, name) for value in session.get_outputs()}
    return inputs, outputs


_ORT_DTYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(bool)": np.bool_,
}


def _spec_of(value: Any, graph: str) -> TensorSpec:
    shape = tuple(value.shape)
    if value.type not in _ORT_DTYPES or not all(isinstance(size, int) for size in shape):
        raise EngineError(
            f"The {graph} graph's '{value.name}' is {value.type} {list(shape)}, "
            "expected a plain tensor of static shape."
        )
    return TensorSpec(value.name, np.dtype(_ORT_DTYPES[value.type]), shape)


def _check_available(provider: str, available: list[str], graph: str) -> None:
    if provider not in available:
        raise EngineError(
            f"{provider} was requested for the {graph} graph and is not available; this "
            f"onnxruntime has {', '.join(available)}. It comes with: {_package_of(provider)}. Only "
            "one onnxruntime package may be installed at a time."
        )


def _package_of(provider: str) -> str:
    package = _PROVIDER_PACKAGES.get(provider)
    return package_command(package) if package else "an onnxruntime build that includes it"
