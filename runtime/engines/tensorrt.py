"""A TensorRT engine, TensorRT 10.3 to 11: runs a serialised engine on buffers of the device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from dff_edge.bundle.tensors import TensorSpec
from dff_edge.errors import EngineError
from dff_edge.lifetime import bind
from dff_edge.runtime.engines.base import check_arrays
from dff_edge.runtime.engines.device_io import Staging, check_buffers
from dff_edge.runtime.engines.tensorrt_library import (
    load_plugin,
    load_tensorrt,
    numpy_dtypes,
    tensorrt_logger,
    tensorrt_version,
)

if TYPE_CHECKING:
    from dff_edge.runtime.devices.base import Buffer, Stream
    from dff_edge.runtime.devices.cuda.device import CudaDevice


class TensorRtEngine:
    """A serialised engine in TensorRT.

    One run at a time: what is enqueued on one stream must be ordered before what is enqueued on
    another, for all runs share the engine's scratch memory.

    Args:
        plan: the engine's bytes, from a verified cache: they are code.
        name: what messages call the graph, for example ``"int8 feature"``.
        device: where it was built for; its buffers and streams are taken. It must outlive this.
        plugin: whether it calls the warp's plugin.

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
        self.name = name
        self._device = device
        self._errors = errors
        self._staging: Staging | None = None
        with device.current():
            self._runtime = trt.Runtime(logger)
            self._engine = self._runtime.deserialize_cuda_engine(plan)
            if self._engine is None:
                raise EngineError(
                    f"{tensorrt_version(trt)} on {device.name} could not load the {name} engine: "
                    f"{errors}. An engine fits one version and one kind of device; build it here: "
                    "dff-edge deploy BUNDLE --target tensorrt --rebuild"
                )
            self._inputs, self._outputs = _tensors(trt, self._engine, name)
            self._context = self._engine.create_execution_context()
        if self._context is None:
            raise EngineError(
                f"{tensorrt_version(trt)} could not make the {name} engine ready to run: {errors}."
            )
        self._addresses = dict.fromkeys([*self._inputs, *self._outputs], 0)
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
        """Have the engine run on a stream. See ``Engine.enqueue``.

        Raises:
            ShapeError: when a buffer is missing or does not fit its spec.
            EngineError: when TensorRT refuses, or the engine is closed.
        """
        self._check_open()
        for name, pointer in check_buffers(self, inputs, outputs).items():
            # Telling it again what it knows would have it look at all shapes again.
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

    def close(self) -> None:
        """Free the engine. Closing twice is allowed; running afterwards is not."""
        if self._context is None:  # the device may be closed by now
            return
        with self._device.current():
            # In this order: each uses the next.
            self._context = None
            self._engine = None
            self._runtime = None
        if self._staging is not None:
            self._staging.close()
            self._staging = None

    def __enter__(self) -> TensorRtEngine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check_open(self) -> None:
        if self._context is None:
            raise EngineError(f"The {self.name} engine is closed; open a new one to run it.")


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
