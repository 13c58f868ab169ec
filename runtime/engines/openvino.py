"""OpenVINO on the CPU: often the faster engine on Intel's.

It runs the same graphs as ONNX Runtime, in the precision of the graph: by default OpenVINO would
use bfloat16 for float32 where the CPU supports it, which is switched off.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dff_edge.bundle.reader import Bundle
from dff_edge.bundle.tensors import TensorSpec
from dff_edge.cpuinfo import overflows_here
from dff_edge.errors import EngineError, require, words_of
from dff_edge.names import GraphName, Precision
from dff_edge.runtime.engines.base import BaseEngine, Engine, thread_count
from dff_edge.runtime.engines.open_cpu import open_on_cpu
from dff_edge.runtime.engines.options import EngineOptions
from dff_edge.runtime.engines.signal_stack import kept_signal_stack
from dff_edge.runtime.engines.subnets import Opened

_LOG = logging.getLogger("dff_edge.runtime")
_WARNED: set[tuple[str, Precision]] = set()  # digests and precisions


class OpenVinoEngine(BaseEngine):
    """A graph in OpenVINO.

    Args:
        graph_bytes: the ONNX file's bytes, verified (``Bundle.graph_bytes``).
        name: name of the graph in messages, for example ``"int8 feature"``.
        threads: threads of one run; ``None`` means the cores this process may use.

    Raises:
        MissingDependencyError: when openvino is not installed.
        EngineError: when the graph could not be loaded.
    """

    def __init__(self, graph_bytes: bytes, *, name: str, threads: int | None = None) -> None:
        openvino = load_openvino(f"Running the {name} graph")
        options = {
            "INFERENCE_NUM_THREADS": thread_count(threads, name),
            "INFERENCE_PRECISION_HINT": "f32",
            "NUM_STREAMS": 1,
            # Pinned threads of several graphs would be placed on the same cores.
            "ENABLE_CPU_PINNING": False,
        }
        core = openvino.Core()
        try:
            with kept_signal_stack():
                # The graph's own ports: a compiled one's have the names of what it was joined with
                # too, and would be known by one of those.
                graph = core.read_model(graph_bytes)
                inputs = {port.any_name: _spec_of(port) for port in graph.inputs}
                outputs = {port.any_name: _spec_of(port) for port in graph.outputs}
                model = core.compile_model(graph, "CPU", options)
            self._request: Any = model.create_infer_request()
        except Exception as error:  # it raises RuntimeError and classes of its own
            raise EngineError(
                f"OpenVINO {openvino.__version__} could not load the {name} graph: "
                f"{words_of(error)}"
            ) from error
        self._as_tensor = openvino.Tensor
        super().__init__(name, inputs, outputs)

    def _compute(
        self,
        inputs: Mapping[str, NDArray[Any]],
        outputs: Mapping[str, NDArray[Any]],
        addresses: tuple[int, ...],
    ) -> None:
        try:
            for name in self._inputs:
                self._request.set_tensor(name, self._as_tensor(inputs[name], shared_memory=True))
            for name in self._outputs:
                self._request.set_tensor(name, self._as_tensor(outputs[name], shared_memory=True))
            self._request.infer()
        except Exception as error:
            raise EngineError(f"The {self.name} graph failed: {words_of(error)}") from error

    def _free(self) -> None:
        self._request = None


def open_openvino(bundle: Bundle, precision: Precision, options: EngineOptions) -> Opened:
    """Open a bundle in OpenVINO. See ``open_on_cpu``."""

    def open_graph(graph: GraphName, threads: int) -> Engine:
        data = bundle.graph_bytes(precision, graph)
        return OpenVinoEngine(data, name=f"{precision} {graph}", threads=threads)

    _warn_of_overflow(bundle, precision)
    return open_on_cpu(bundle, precision, options, open_graph)


def overflows(bundle: Bundle, precision: Precision) -> bool:
    """Return whether sums of these graphs overflow in OpenVINO on this CPU: it has no VNNI."""
    record = bundle.manifest.calibration.get("ort", {}).get(precision)
    return record is not None and record.weight_bits == 8 and overflows_here()


def _warn_of_overflow(bundle: Bundle, precision: Precision) -> None:
    """Warn once of graphs that are less exact in OpenVINO on this CPU than elsewhere."""
    if (bundle.digest, precision) in _WARNED or not overflows(bundle, precision):
        return
    _WARNED.add((bundle.digest, precision))
    _LOG.warning(
        "The %s graphs of %s have weights of 8 bits. On this CPU, which has no VNNI, some sums "
        "overflow in OpenVINO: results are less exact than in ONNX Runtime. `dff-edge calibrate "
        "--weight-bits 7`, of a bundle that `dff-edge export` wrote, makes graphs whose sums fit.",
        precision,
        bundle.path,
    )


def load_openvino(purpose: str) -> Any:
    """Import openvino without its telemetry, which would write an id into ``~/intel`` and send it.

    A user's own consent, ``~/intel/openvino_telemetry`` of OpenVINO's ``opt_in_out``, is kept.

    Args:
        purpose: the start of the sentence in the message, what needs the package.

    Raises:
        MissingDependencyError: when openvino is not installed.
    """
    name = "openvino_telemetry"
    consent = os.path.join(os.path.expanduser("~"), "intel", name)
    is_free = name not in sys.modules and not os.path.exists(consent)
    if is_free:
        sys.modules[name] = None  # type: ignore[assignment]  # as if it were not installed
    try:
        return require("openvino", extra="openvino", purpose=purpose)
    finally:
        if is_free:
            del sys.modules[name]


def _spec_of(port: Any) -> TensorSpec:
    return TensorSpec(port.any_name, np.dtype(port.element_type.to_dtype()), tuple(port.shape))
