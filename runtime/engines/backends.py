"""Backends: the libraries that can compute a bundle's graphs, a row for each.

The terms, here and everywhere:

- A *backend* is a library that computes graphs on a device. ``--engine`` names the one that runs.
- An *engine* is one loaded graph of a backend (``engines/base.py``).
- A *target* is a backend to build engines for: ``dff-edge deploy`` builds them ahead,
  and ``--target`` names it.
- A *platform* is a target on this machine, with all that such engines depend on
  (``engines/deployed.py``).
- A *flavour* is the set of quantisation rules that a bundle's graphs follow.
- A *provider* is ONNX Runtime's own term for the backend of a session, and nothing else.

To add a backend, write one file with its engine and the functions that its row names, and the row.
The functions are named as entry points are, ``module:function``, and imported when they are used:
the table is read to print ``--help``, and loads no backend.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pkgutil import resolve_name
from typing import Any, Literal

from dff_edge.errors import ConfigError
from dff_edge.names import PRECISIONS, Flavour, Precision


@dataclass(frozen=True, slots=True)
class Requirement:
    """A package that a backend needs, which ``dff-edge doctor`` looks for.

    Attributes:
        module: the module to import.
        extra: of dff-edge, that provides it; None where none does.
    """

    module: str
    extra: str | None = None


@dataclass(frozen=True, slots=True)
class Backend:
    """One row: a backend.

    Attributes:
        name: for ``--engine``.
        summary: its text in ``--help``.
        device: where it computes; on "cpu" it runs hand-crafted flow too.
        flavour: of the graphs that it runs.
        lacks: the precisions that it does not support, and why.
        requirements: the packages that it needs.
        opener: names the function that opens a bundle's engines; it accepts a ``Bundle``, a
            precision and ``EngineOptions``, and returns ``Opened``.
        target: for ``--target``; None where nothing is built ahead.
        builder: names the function that opens the target: a context manager that accepts
            ``BuildOptions`` and yields a ``Target``; None where there is none.
    """

    name: str
    summary: str
    device: Literal["cpu", "cuda"]
    flavour: Flavour
    requirements: tuple[Requirement, ...]
    opener: str
    lacks: Mapping[Precision, str] = field(default_factory=dict)
    target: str | None = None
    builder: str | None = None

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """The precisions that it supports, fp32 first."""
        return tuple(precision for precision in PRECISIONS if precision not in self.lacks)


_SPEAKS_TO_GPU = (Requirement("pycuda.driver", "pycuda"), Requirement("cuda.bindings"))

BACKENDS: dict[str, Backend] = {
    row.name: row
    for row in (
        Backend(
            name="onnxruntime",
            summary="ONNX Runtime on the CPU",
            device="cpu",
            flavour="ort",
            requirements=(Requirement("onnxruntime", "cpu"),),
            opener="dff_edge.runtime.engines.open_cpu:open_onnxruntime",
            target="cpu",
            builder="dff_edge.deploy.cpu:open_target",
        ),
        Backend(
            name="openvino",
            summary="OpenVINO on the CPU, often faster on Intel's",
            device="cpu",
            flavour="ort",
            requirements=(Requirement("openvino", "openvino"),),
            opener="dff_edge.runtime.engines.openvino:open_openvino",
        ),
        Backend(
            name="cuda",
            summary="ONNX Runtime on an NVIDIA GPU",
            device="cuda",
            flavour="ort",
            lacks={
                "int8": "ONNX Runtime's CUDA provider has no integer convolution; use fp16, or "
                "--target tensorrt"
            },
            requirements=(Requirement("onnxruntime", "cuda"), *_SPEAKS_TO_GPU),
            opener="dff_edge.runtime.engines.onnxruntime_cuda:open_onnxruntime_cuda",
            target="cuda",
            builder="dff_edge.deploy.cuda:open_target",
        ),
        Backend(
            name="tensorrt",
            summary="TensorRT on an NVIDIA GPU, whose engines `dff-edge deploy` makes",
            device="cuda",
            flavour="trt",
            requirements=(Requirement("tensorrt", "tensorrt"), *_SPEAKS_TO_GPU),
            opener="dff_edge.runtime.engines.tensorrt:open_tensorrt",
            target="tensorrt",
            builder="dff_edge.deploy.tensorrt:open_target",
        ),
    )
}
DEFAULT_BACKEND = "onnxruntime"


def backend_of(engine: str) -> Backend:
    """Return the backend of a name of ``--engine``.

    Raises:
        ConfigError: there is none of the name.
    """
    if engine not in BACKENDS:
        raise ConfigError(f"engine is '{engine}', expected one of {', '.join(BACKENDS)}.")
    return BACKENDS[engine]


def targets() -> dict[str, Backend]:
    """Return the backends that engines are built for, by the name of the target."""
    return {row.target: row for row in BACKENDS.values() if row.target is not None}


def names_on(device: Literal["cpu", "cuda"]) -> tuple[str, ...]:
    """Return the names of the backends that compute on a device."""
    return tuple(row.name for row in BACKENDS.values() if row.device == device)


def targets_on(device: Literal["cpu", "cuda"]) -> tuple[str, ...]:
    """Return the names of the targets that compute on a device."""
    return tuple(name for name, row in targets().items() if row.device == device)


def load_function(reference: str) -> Callable[..., Any]:
    """Import the function that a row names.

    Raises:
        ImportError: it cannot be imported, or there is none.
    """
    function: Callable[..., Any] = resolve_name(reference)
    return function
