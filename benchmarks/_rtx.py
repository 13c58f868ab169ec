"""TensorRT for RTX, which needs no GPU to parse and to build: the same parser as TensorRT's.

It has no plugin layer, and it builds for desktop GPUs only. What it says of a graph's types is what
TensorRT would say; what it says of speed needs a GPU of its own.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from functools import lru_cache
from types import ModuleType
from typing import Any


@lru_cache(maxsize=1)
def load_rtx() -> ModuleType:
    """Import the wheels ``tensorrt_rtx_cu13_libs`` and ``tensorrt_rtx_cu13_bindings``.

    Raises:
        ImportError: one of them is missing.
    """
    importlib.import_module("tensorrt_rtx_libs")  # first: it loads the libraries
    return importlib.import_module("tensorrt_rtx_bindings.tensorrt_rtx")


class RtxNetwork:
    """A graph as the parser read it.

    Attributes:
        errors: what the parser refused; the network is of no use then.
    """

    def __init__(self, graph: bytes) -> None:
        self._trt = trt = load_rtx()
        self._log = _log()
        self._log.lines.clear()
        self._builder = trt.Builder(self._log)
        self._network = self._builder.create_network(0)
        self._parser = trt.OnnxParser(self._network, self._log)  # owns weights of the network
        self._parser.parse(graph)
        self.errors = tuple(
            self._parser.get_error(i).desc() for i in range(self._parser.num_errors)
        )

    def types(self) -> dict[str, str]:
        """DataType of each input and output, by name, as in "INT8"."""
        network = self._network
        tensors = [network.get_input(i) for i in range(network.num_inputs)]
        tensors += [network.get_output(i) for i in range(network.num_outputs)]
        return {tensor.name: tensor.dtype.name for tensor in tensors}

    def layers(self, *kinds: str) -> list[Any]:
        """Layers of some kinds, as in "CONVOLUTION", in order."""
        layers = [self._network.get_layer(i) for i in range(self._network.num_layers)]
        return [layer for layer in layers if layer.type.name in kinds]

    def sources(self, layer: Any) -> list[Any]:
        """The layers that give the inputs of a layer; None for inputs of the network."""
        makers = {
            made.get_output(i).name: made
            for made in (self._network.get_layer(i) for i in range(self._network.num_layers))
            for i in range(made.num_outputs)
        }
        return [makers.get(layer.get_input(i).name) for i in range(layer.num_inputs)]

    def build(self, capabilities: Sequence[str]) -> int:
        """Build one engine for some compute capabilities, as in "SM89"; give its bytes.

        Raises:
            RuntimeError: it could not be built; with what was logged.
        """
        config = self._builder.create_builder_config()
        config.num_compute_capabilities = len(capabilities)
        for index, name in enumerate(capabilities):
            config.set_compute_capability(getattr(self._trt.ComputeCapability, name), index)
        engine = self._builder.build_serialized_network(self._network, config)
        if engine is None:
            raise RuntimeError("\n".join(self._log.lines))
        return int(engine.nbytes)


@lru_cache(maxsize=1)
def _log() -> Any:
    """One log for all: TensorRT keeps the first that it is given."""
    trt = load_rtx()

    class Log(trt.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.lines: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity <= trt.ILogger.WARNING:
                self.lines.append(message)

    return Log()
