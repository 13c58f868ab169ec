"""ONNX Runtime's CUDA provider on buffers of the device, ordered with its streams.

The session has one stream of its own for its lifetime: the provider is given it when opened.
Events order its work with that of the caller, so that the CPU waits for nothing::

    stream  --record--> begun --wait-->  own stream: the graph  --record--> done --wait--> stream
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from dff_edge.bundle.reader import Bundle
from dff_edge.errors import EngineError, MissingDependencyError, PipelineError, require, words_of
from dff_edge.names import GraphName, Precision
from dff_edge.packages import install_command
from dff_edge.runtime.devices.cuda.device import CudaDevice
from dff_edge.runtime.devices.cuda.kernels import LIBRARY_VARIABLE, library_path
from dff_edge.runtime.engines.base import Engine
from dff_edge.runtime.engines.base_cuda import CudaEngine
from dff_edge.runtime.engines.deployed import Platform, describe_gpu, open_optimised
from dff_edge.runtime.engines.onnxruntime import (
    CUDA_PROVIDER,
    Bindings,
    open_session,
    session_specs,
)
from dff_edge.runtime.engines.open_cuda import open_on_cuda
from dff_edge.runtime.engines.options import EngineOptions
from dff_edge.runtime.engines.subnets import Opened

if TYPE_CHECKING:
    from dff_edge.runtime.devices.base import Stream
    from dff_edge.runtime.devices.cuda.streams import CudaStream

_PURPOSE = "Running on the target cuda"
_log = logging.getLogger("dff_edge.runtime")


class OrtCudaEngine(CudaEngine):
    """A graph in ONNX Runtime on a GPU, FP32 or FP16.

    Args:
        graph_bytes: the ONNX file's bytes, verified (``Bundle.graph_bytes``).
        name: name of the graph in messages, for example ``"fp16 feature"``.
        device: the device of the buffers and streams. It must outlive this.

    Raises:
        MissingDependencyError: when onnxruntime is not installed.
        EngineError: when the provider is not available or did not accept the whole graph, the
            graph could not be loaded, or it is quantised.
    """

    def __init__(self, graph_bytes: bytes, *, name: str, device: CudaDevice) -> None:
        refuse_integers(graph_bytes, name)
        ort = load_onnxruntime(f"Running the {name} graph")
        self._stream = device.stream(f"{name} in ONNX Runtime")
        try:
            with device.current():
                session = open_session(
                    graph_bytes,
                    name=name,
                    threads=1,
                    provider=CUDA_PROVIDER,
                    provider_options=_provider_options(device, self._stream),
                )
            inputs, outputs = session_specs(session, name)
        except BaseException:
            self._stream.close()
            raise
        self._session: Any = session
        self._bindings = Bindings(session, inputs, outputs, device="cuda", ordinal=device.ordinal)
        # An event marks the end of the graph; the caller does not wait.
        self._run_options = ort.RunOptions()
        self._run_options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        self._begun = self._stream.event()
        self._done = self._stream.event()
        super().__init__(name, inputs, outputs, device)

    def _enqueue(self, pointers: dict[str, int], stream: Stream) -> None:
        """Run on the session's own stream, ordered between earlier and later work of ``stream``."""
        binding = self._bindings[tuple(pointers.values())]
        stream.record(self._begun)
        self._stream.wait(self._begun)
        try:
            with self._device.current():
                self._session.run_with_iobinding(binding, self._run_options)
        except Exception as error:  # pybind raises one class for each native status
            raise EngineError(f"The {self.name} graph failed: {words_of(error)}") from error
        self._stream.record(self._done)
        stream.wait(self._done)

    def _free(self) -> None:
        with suppress(PipelineError):  # reported by the stream of the run; closing always works
            self._stream.synchronize()  # the session's memory is in use until then
        with self._device.current():
            self._bindings.clear()
            self._session = None
        self._stream.close()
        super()._free()


def _provider_options(device: CudaDevice, stream: CudaStream) -> dict[str, str]:
    return {
        "device_id": str(device.ordinal),
        "user_compute_stream": str(stream.handle),
        "arena_extend_strategy": "kSameAsRequested",
        "use_tf32": "0",  # FP32 means FP32; FP16 is the faster choice
    }


def open_onnxruntime_cuda(bundle: Bundle, precision: Precision, options: EngineOptions) -> Opened:
    """Open a bundle's graphs on a GPU. See ``open_on_cuda``.

    The warp is the native kernel if that was built, else the portable graph's.
    """
    check_provider_available()

    def open_graphs(device: CudaDevice, engines: dict[GraphName, Engine]) -> None:
        if options.cuda.graphs:
            raise EngineError(
                "CUDA graphs were requested with the engine 'cuda': ONNX Runtime's work is not "
                "recorded. Use the engine 'tensorrt', or leave graphs to None."
            )
        graphs: tuple[GraphName, ...] = ("feature", "flow", bundle.manifest.task_graph())
        if not _has_kernels():
            if bundle.manifest.task_format.has_task_maps:  # which propagate.onnx does not return
                raise EngineError(
                    "libdff_cuda.so was not built, and the engine 'cuda' needs its warp for "
                    f"{bundle.manifest.task}. Build the CUDA kernels (docs/gpu.md), or use the "
                    "engine 'tensorrt' or the CPU."
                )
            _log.info("libdff_cuda.so was not built: warp and task network are propagate.onnx")
            graphs = (*graphs, "propagate")
        here = cuda_platform(device)
        for graph in graphs:
            engines[graph] = open_optimised(bundle, precision, graph, here)

    return open_on_cuda(bundle, precision, "ort", options, open_graphs)


def cuda_platform(device: CudaDevice) -> Platform:
    """Return the platform of ONNX Runtime's engines for a GPU.

    Raises:
        MissingDependencyError: onnxruntime is not installed.
    """
    ort = require("onnxruntime", extra="cuda", purpose=_PURPOSE)

    def load(data: bytes, *, name: str, graph: GraphName, threads: int | None) -> Engine:
        return OrtCudaEngine(data, name=name, device=device)

    return Platform(
        target="cuda",
        runtime=f"ONNX Runtime {ort.__version__}",
        device=describe_gpu(device),
        flavour="ort",
        flags="extended, no TF32",
        load=load,
        hardware=device,
    )


def check_provider_available() -> None:
    """Import onnxruntime before a device is opened, to report all that is missing.

    Raises:
        MissingDependencyError: it is not installed, or is one without CUDA.
    """
    ort = require("onnxruntime", extra="cuda", purpose=_PURPOSE)
    providers = ort.get_available_providers()
    if CUDA_PROVIDER not in providers:
        raise MissingDependencyError(
            f"{_PURPOSE} needs ONNX Runtime with CUDA, and this one has {', '.join(providers)}. "
            f"Install it with: {install_command('cuda')}"
        )


def _has_kernels() -> bool:
    """Return whether the CUDA kernels were built; raise if a named library is missing."""
    if os.environ.get(LIBRARY_VARIABLE):
        return library_path().is_file()
    try:
        library_path()
    except MissingDependencyError:
        return False
    return True


def load_onnxruntime(purpose: str) -> Any:
    """Import onnxruntime and the libraries that its CUDA provider needs.

    Raises:
        MissingDependencyError: when it is not installed.
    """
    ort = require("onnxruntime", extra="cuda", purpose=purpose)
    if hasattr(ort, "preload_dlls"):  # since 1.21: finds CUDA and cuDNN in pip's packages
        ort.preload_dlls()
    return ort


def refuse_integers(graph_bytes: bytes, name: str) -> None:
    """Raise for a quantised graph, which the CUDA provider would compute in float, and slower.

    Raises:
        EngineError: when the graph holds QuantizeLinear or DequantizeLinear nodes.
    """
    # An operator's name is plain text in the file. Parsing protobuf would need a package that a
    # device does not have.
    if b"QuantizeLinear" in graph_bytes or b"DequantizeLinear" in graph_bytes:
        raise EngineError(
            f"The {name} graph is quantised, and ONNX Runtime's CUDA provider has no integer "
            "convolution (QLinearConv): it would dequantise each input and compute in FP32. Use "
            "fp16 here, or int8 with TensorRT: dff-edge deploy BUNDLE --target tensorrt"
        )
