"""Engines: each runs one graph of a bundle, with named inputs and outputs.

The caller owns every array. An engine binds to the memory that is passed to it, computes,
and returns when the outputs hold the result; it keeps no array of its own, so
that a pipeline in steady state allocates nothing.
"""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, Protocol, cast

from numpy.typing import NDArray

from dff_edge.bundle.tensors import TensorSpec
from dff_edge.errors import EngineError, ShapeError
from dff_edge.lifetime import Closing, bind
from dff_edge.runtime.devices.base import Buffer, HostStream, Stream

# A pipeline of depth d passes d * d pairs of key frame and frame to its flow network, d being 16 at
# most; callers with new arrays for each call must not make the cache grow without bound.
MAX_BINDINGS = 512


class Engine(Protocol):
    """One loaded graph. Calls of one engine must not overlap; several engines may run at once."""

    @property
    def name(self) -> str:
        """Name of the graph in messages, for example "int8 feature"."""

    @property
    def inputs(self) -> dict[str, TensorSpec]:
        """Inputs by name."""

    @property
    def outputs(self) -> dict[str, TensorSpec]:
        """Outputs by name."""

    def run(self, inputs: Mapping[str, NDArray[Any]], outputs: Mapping[str, NDArray[Any]]) -> None:
        """Compute ``outputs`` from ``inputs``, in place; return when they are written.

        Args:
            inputs: exactly the arrays of ``Engine.inputs``, C-contiguous.
            outputs: exactly the arrays of ``Engine.outputs``, C-contiguous and writable.
                No memory may be shared with ``inputs``.

        Raises:
            ShapeError: when an array is missing or does not fit its spec.
            EngineError: when the run fails, or the engine is closed.
        """

    def enqueue(
        self, inputs: Mapping[str, Buffer], outputs: Mapping[str, Buffer], stream: Stream
    ) -> None:
        """Enqueue ``run`` on a stream, in order with its other work; return at once.

        Only the given stream is waited for. The stream reports a failure.
        """

    def close(self) -> None:
        """Free the graph. Closing twice is allowed; running afterwards is not."""


class BaseEngine(Closing):
    """An engine with the common checks and lifecycle.

    A kind of engine loads its graph, then calls this ``__init__``; it computes in ``_compute`` and
    frees the graph in ``_free``. ``enqueue`` calls ``run`` in a thread of the CPU; engines of a GPU
    are ``CudaEngine``.

    Args:
        name: name of the graph in messages, for example ``"int8 feature"``.
        inputs, outputs: those of the graph, by name.
    """

    def __init__(
        self, name: str, inputs: dict[str, TensorSpec], outputs: dict[str, TensorSpec]
    ) -> None:
        self.name = name
        self._inputs = inputs
        self._outputs = outputs
        self._is_open = True
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
        """Compute ``outputs`` from ``inputs`` in place. See ``Engine.run``."""
        self._check_open()
        self._compute(inputs, outputs, check_arrays(self, inputs, outputs))

    def enqueue(
        self, inputs: Mapping[str, Buffer], outputs: Mapping[str, Buffer], stream: Stream
    ) -> None:
        """Enqueue ``run`` on a stream. See ``Engine.enqueue``."""
        enqueue_run(self, inputs, outputs, stream)

    def close(self) -> None:
        """Free the graph. Closing twice is allowed; running afterwards is not."""
        if self._is_open:
            self._free()
            self._is_open = False

    def _check_open(self) -> None:
        if not self._is_open:
            raise EngineError(f"The {self.name} engine is closed; open a new one to run it.")

    @abstractmethod
    def _compute(
        self,
        inputs: Mapping[str, NDArray[Any]],
        outputs: Mapping[str, NDArray[Any]],
        addresses: tuple[int, ...],
    ) -> None:
        """Compute in arrays that fit.

        Args:
            inputs, outputs: as of ``run``.
            addresses: address of each array, inputs before outputs.
        """

    @abstractmethod
    def _free(self) -> None:
        """Free the graph of an engine that is open."""


def check_names(
    engine: Engine, role: str, specs: Mapping[str, TensorSpec], given: Mapping[str, Any]
) -> None:
    """Raise ShapeError for tensors that are missing or superfluous.

    Args:
        engine: for the message.
        role: "input" or "output".
        specs: tensors of this role.
        given: arrays or buffers by name.
    """
    if given.keys() != specs.keys():
        raise ShapeError(f"{engine.name}: {role}s are {sorted(given)}, expected {sorted(specs)}.")


def check_arrays(
    engine: Engine, inputs: Mapping[str, NDArray[Any]], outputs: Mapping[str, NDArray[Any]]
) -> tuple[int, ...]:
    """Check the arguments of ``Engine.run``.

    Returns:
        Address of each array, inputs before outputs, in the engine's order.

    Raises:
        ShapeError: as ``Engine.run``.
    """
    addresses: list[int] = []
    for role, specs, arrays in (
        ("input", engine.inputs, inputs),
        ("output", engine.outputs, outputs),
    ):
        check_names(engine, role, specs, arrays)
        for spec in specs.values():
            array = arrays[spec.name]
            addresses.append(_address(engine.name, spec, array))
            if role == "output" and not array.flags.writeable:
                raise ShapeError(
                    f"{engine.name}: output '{spec.name}' is read-only, expected a writable array."
                )
    return tuple(addresses)


def enqueue_run(
    engine: Engine, inputs: Mapping[str, Buffer], outputs: Mapping[str, Buffer], stream: Stream
) -> None:
    """Implement ``Engine.enqueue`` for an engine that computes in the calling thread."""
    input_arrays = {name: buffer.array for name, buffer in inputs.items()}
    output_arrays = {name: buffer.array for name, buffer in outputs.items()}
    cast("HostStream", stream).enqueue(lambda: engine.run(input_arrays, output_arrays))


def _address(name: str, spec: TensorSpec, array: NDArray[Any]) -> int:
    if array.shape != spec.shape or array.dtype != spec.dtype:
        raise ShapeError(
            f"{name}: '{spec.name}' is {array.dtype} {array.shape}, "
            f"expected {spec.dtype} {spec.shape}."
        )
    if not array.flags.c_contiguous:
        raise ShapeError(
            f"{name}: '{spec.name}' is not C-contiguous; pass np.ascontiguousarray(...)."
        )
    # Not __array_interface__: its strings make the interpreter's table of interned
    # strings grow again and again, seen as 2 MB in 10,000 runs.
    address: int = array.ctypes.data
    return address


def thread_count(threads: int | None, name: str) -> int:
    """Return the threads of one run: those requested, or the cores of this process.

    Raises:
        EngineError: fewer than one was requested.
    """
    if threads is not None and threads < 1:
        raise EngineError(f"threads is {threads} for the {name} graph, expected 1 or more.")
    return threads or usable_cores()


def usable_cores() -> int:
    """Return the number of cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):  # also right in a container pinned to some cores
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
