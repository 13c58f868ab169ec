"""A TensorRT engine, TensorRT 10.3 to 11: runs a serialised engine on buffers of the device."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from dff_edge.bundle.reader import Bundle
from dff_edge.bundle.tensors import TensorSpec
from dff_edge.errors import EngineError
from dff_edge.names import GraphName, Precision
from dff_edge.runtime.devices.cuda.device import CudaDevice
from dff_edge.runtime.engines.base import Engine
from dff_edge.runtime.engines.base_cuda import CudaEngine
from dff_edge.runtime.engines.cache import EngineCache
from dff_edge.runtime.engines.choose_graphs import choose_graphs
from dff_edge.runtime.engines.deployed import Platform, describe_gpu, open_deployed
from dff_edge.runtime.engines.open_cuda import open_on_cuda
from dff_edge.runtime.engines.options import EngineOptions
from dff_edge.runtime.engines.subnets import Opened
from dff_edge.runtime.engines.tensorrt_library import (
    load_plugin,
    load_tensorrt,
    numpy_dtypes,
    plugin_sha256,
    tensorrt_logger,
    tensorrt_version,
)

if TYPE_CHECKING:
    from dff_edge.runtime.devices.base import Stream

_log = logging.getLogger("dff_edge.runtime")


class TensorRtEngine(CudaEngine):
    """A serialised engine in TensorRT.

    One run at a time: work on different streams must be ordered by the caller, for all runs share
    the engine's scratch memory.

    Args:
        plan: the engine's bytes, from a verified cache: they are code.
        name: name of the graph in messages, for example ``"int8 feature"``.
        device: the device it was built for, of the buffers and streams. It must outlive this.
        plugin: whether it calls the plugin for the warp.

    Raises:
        MissingDependencyError: when TensorRT, or the plugin where it is needed, is missing.
        EngineError: when TensorRT refuses the bytes, or the engine's shapes are dynamic or its
            formats vectorised.
    """

    def __init__(self, plan: bytes, *, name: str, device: CudaDevice, plugin: bool = False) -> None:
        trt = load_tensorrt()
        if plugin:
            load_plugin(trt)
        logger, errors = tensorrt_logger(trt)
        errors.clear()
        self._errors = errors
        with device.current():
            self._runtime = trt.Runtime(logger)
            self._engine = self._runtime.deserialize_cuda_engine(plan)
            if self._engine is None:
                raise EngineError(
                    f"{tensorrt_version(trt)} on {device.name} could not load the {name} engine: "
                    f"{errors}. An engine fits one version and one kind of device; build it here: "
                    "dff-edge deploy BUNDLE --target tensorrt --rebuild"
                )
            inputs, outputs = _tensors(trt, self._engine, name)
            self._context = self._engine.create_execution_context()
        if self._context is None:
            raise EngineError(
                f"{tensorrt_version(trt)} could not make the {name} engine ready to run: {errors}."
            )
        self._addresses = dict.fromkeys([*inputs, *outputs], 0)
        super().__init__(name, inputs, outputs, device)

    def _enqueue(self, pointers: dict[str, int], stream: Stream) -> None:
        for name, pointer in pointers.items():
            # Setting an address again would make TensorRT check all shapes again.
            if self._addresses[name] != pointer:
                if not self._context.set_tensor_address(name, pointer):
                    raise EngineError(
                        f"TensorRT refused the address of '{name}' of the {self.name} engine: "
                        f"{self._errors}."
                    )
                self._addresses[name] = pointer
        with self._device.current():
            is_enqueued = self._context.execute_async_v3(stream.handle)  # type: ignore[attr-defined]
        if not is_enqueued:
            raise EngineError(f"TensorRT could not run the {self.name} engine: {self._errors}.")

    def _free(self) -> None:
        with self._device.current():
            # In this order: each uses the next.
            self._context = None
            self._engine = None
            self._runtime = None
        super()._free()


def open_tensorrt(bundle: Bundle, precision: Precision, options: EngineOptions) -> Opened:
    """Open the engines of a bundle that ``dff-edge deploy`` made. See ``open_on_cuda``."""
    load_tensorrt()  # before a device is opened, to report all that is missing

    def open_graphs(device: CudaDevice, engines: dict[GraphName, Engine]) -> None:
        here = tensorrt_platform(device, plugin=options.cuda.plugin)
        cache = EngineCache()
        warp: GraphName = "propagate" if options.cuda.plugin else "propagate_portable"
        graphs: tuple[GraphName, ...] = ("feature", "flow", "task", warp)
        for graph in graphs:
            opened = open_deployed(bundle, precision, graph, here, cache)
            engines[graph] = opened  # closed by the caller when measuring it fails
            engines[graph], reason = choose_graphs(opened, device, options.cuda.graphs)
            _log.info("%s: %s", opened.name, reason)

    return open_on_cuda(bundle, precision, "trt", options, open_graphs)


def tensorrt_platform(device: CudaDevice, *, plugin: bool) -> Platform:
    """Return the platform of TensorRT's engines.

    Args:
        device: the device that they run on.
        plugin: whether the warp is the plugin, or TensorRT's own layers.

    Raises:
        MissingDependencyError: TensorRT or the plugin is missing.
    """
    trt = load_tensorrt()

    def load(data: bytes, *, name: str, graph: GraphName, threads: int | None) -> Engine:
        return TensorRtEngine(data, name=name, device=device, plugin=here.calls_plugin(graph))

    here = Platform(
        target="tensorrt",
        runtime=tensorrt_version(trt),
        device=describe_gpu(device),
        flavour="trt",
        flags="strongly typed, no TF32",
        load=load,
        plugin_sha256=plugin_sha256(trt) if plugin else None,
        hardware=device,
    )
    return here


def _tensors(
    trt: Any, engine: Any, name: str
) -> tuple[dict[str, TensorSpec], dict[str, TensorSpec]]:
    dtypes = numpy_dtypes(trt)
    inputs: dict[str, TensorSpec] = {}
    outputs: dict[str, TensorSpec] = {}
    for index in range(engine.num_io_tensors):
        tensor = engine.get_tensor_name(index)
        shape = tuple(engine.get_tensor_shape(tensor))
        dtype = engine.get_tensor_dtype(tensor)
        if dtype not in dtypes or any(size < 0 for size in shape):
            raise EngineError(
                f"The {name} engine's '{tensor}' is {dtype} {shape}, expected a plain tensor of "
                "static shape. Was it built by dff-edge deploy?"
            )
        if engine.get_tensor_format(tensor) != trt.TensorFormat.LINEAR:
            raise EngineError(
                f"The {name} engine's '{tensor}' has the format "
                f"{engine.get_tensor_format_desc(tensor)}, expected LINEAR: plain rows. Was it "
                "built by dff-edge deploy?"
            )
        is_input = engine.get_tensor_mode(tensor) == trt.TensorIOMode.INPUT
        (inputs if is_input else outputs)[tensor] = TensorSpec(tensor, dtypes[dtype], shape)
    return inputs, outputs
