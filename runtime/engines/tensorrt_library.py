"""TensorRT's Python module: its version, its log, and the plugin for the warp.

Only features common to TensorRT 10.3 and 11 are used, here and in ``tensorrt.py``.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections import deque
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from dff_edge.errors import EngineError, MissingDependencyError, require

PLUGIN_VARIABLE = "DFF_TENSORRT_PLUGIN"

_KEPT_ERRORS = 8
_DTYPES = {  # by the name of a trt.DataType
    "FLOAT": np.float32,
    "HALF": np.float16,
    "INT8": np.int8,
    "UINT8": np.uint8,
    "INT32": np.int32,
    "INT64": np.int64,
    "BOOL": np.bool_,
}
_log = logging.getLogger("dff_edge.tensorrt")

# By TensorRT module, for the life of the process: its registry and its log are global.
_loaded_plugins: dict[ModuleType, Path] = {}


def load_tensorrt() -> ModuleType:
    """Import TensorRT.

    Raises:
        MissingDependencyError: when it is not installed.
    """
    # On Jetson it comes with JetPack, for the system's own Python.
    return require("tensorrt", extra="tensorrt", purpose="Running on TensorRT")


def tensorrt_version(trt: ModuleType) -> str:
    """Return the version, for example "TensorRT 10.3.0"."""
    return f"TensorRT {trt.__version__}"


def numpy_dtypes(trt: ModuleType) -> dict[Any, np.dtype[Any]]:
    """Return numpy's dtype by ``trt.DataType``, of those that numpy has."""
    return {getattr(trt.DataType, name): np.dtype(dtype) for name, dtype in _DTYPES.items()}


class LastErrors:
    """The last errors of TensorRT, whose calls return null and write the reason to the log only."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=_KEPT_ERRORS)

    def add(self, line: str) -> None:
        self._lines.append(line)

    def clear(self) -> None:
        """Clear the errors before the next call."""
        self._lines.clear()

    def __str__(self) -> str:
        return "; ".join(self._lines) or "it gave no reason"


@cache
def tensorrt_logger(trt: ModuleType) -> tuple[Any, LastErrors]:
    """Return TensorRT's log, which writes to "dff_edge.tensorrt"; one, as TensorRT keeps the first.

    Returns:
        A ``trt.ILogger``, and the errors that it received last, from any thread.
    """
    errors = LastErrors()
    severity = trt.ILogger.Severity
    levels = {
        severity.INTERNAL_ERROR: logging.ERROR,
        severity.ERROR: logging.ERROR,
        severity.WARNING: logging.WARNING,
        severity.INFO: logging.DEBUG,  # hundreds of lines per build
    }

    class Logger(trt.ILogger):  # type: ignore[misc, name-defined]  # class of an optional package
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            level = levels.get(severity)
            if level is None:  # VERBOSE: thousands of lines
                return
            if level == logging.ERROR:
                errors.add(message.strip())
            _log.log(level, "%s", message)

    return Logger(), errors


def plugin_path(trt: ModuleType) -> Path:
    """Return the path of the plugin library for this major version of TensorRT.

    It is ``$DFF_TENSORRT_PLUGIN``, or lies beside the native module.

    Raises:
        MissingDependencyError: when it was not built.
    """
    from dff_edge import _native

    named = os.environ.get(PLUGIN_VARIABLE)
    major = trt.__version__.partition(".")[0]
    beside = Path(_native.__file__).parent / f"libdff_tensorrt{major}.so"
    path = Path(named).absolute() if named else beside
    if not path.is_file():
        told = f"{PLUGIN_VARIABLE} names {path}" if named else f"expected {path}"
        raise MissingDependencyError(
            f"the warp's plugin for {tensorrt_version(trt)} is missing, {told}. Build it against "
            "the headers of the same version: pip install . -C cmake.define.DFF_TENSORRT=ON "
            "-C cmake.define.TENSORRT_INCLUDE_DIR=/usr/include/aarch64-linux-gnu"
        )
    return path


def plugin_sha256(trt: ModuleType) -> str:
    """Return the digest of the plugin library.

    Raises:
        MissingDependencyError: when it was not built.
    """
    return hashlib.sha256(plugin_path(trt).read_bytes()).hexdigest()


def load_plugin(trt: ModuleType) -> None:
    """Register the warp's plugin with TensorRT, once per process; later calls do nothing.

    Raises:
        MissingDependencyError: when it was not built.
        EngineError: when TensorRT does not accept it, or another file was loaded before.
    """
    path = plugin_path(trt).resolve()
    before = _loaded_plugins.get(trt)
    if before == path:
        return
    if before is not None:
        raise EngineError(
            f"the plugin {path} was requested and {before} is loaded already; a process keeps "
            "the first. Start another one."
        )
    _, errors = tensorrt_logger(trt)
    errors.clear()
    # TensorRT refuses a library whose plugins it knows, even if the host program loaded it. A query
    # beforehand would log an error where it did not.
    if trt.get_plugin_registry().load_library(str(path)) is None and not _is_known(trt):
        raise EngineError(
            f"{tensorrt_version(trt)} did not accept the plugin library {path}: {errors}. Was it "
            "built for this version? See docs/design/runtime.md."
        )
    _loaded_plugins[trt] = path


def _is_known(trt: ModuleType) -> bool:
    return trt.get_plugin_registry().get_creator("DffWarp", "1", "") is not None
