"""The errors that dff-edge raises, one tree; each is also the builtin it resembles.

A message reports the received value, the expected one and what to do. The command
line prints any ``DffEdgeError`` as one line on stderr and exits with code 1.
"""

from __future__ import annotations

import errno
import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

_MAX_WORDS = 500
_OPENCV_NO_MEMORY = -4  # cv2.Error.StsNoMem


class DffEdgeError(Exception):
    """Base of every error that a user of dff-edge can cause and fix."""


class ShapeError(DffEdgeError, ValueError):
    """An array has a shape or dtype that the call does not accept."""


class ConfigError(DffEdgeError, ValueError):
    """A configuration file or option holds a value that is not allowed."""


class CheckpointError(DffEdgeError, ValueError):
    """A checkpoint is incomplete, damaged or does not fit its model."""


class BundleError(DffEdgeError, ValueError):
    """A bundle is incomplete, damaged, tampered with, or of a newer schema."""


class BundleReplacedError(BundleError):
    """Another process replaced a bundle that is open."""


class EngineError(DffEdgeError, RuntimeError):
    """A graph could not be loaded or run by the requested engine."""


class ExportError(DffEdgeError, RuntimeError):
    """An exported graph does not compute what its torch model computes."""


class CalibrationError(DffEdgeError, ValueError):
    """Calibration data is missing, too little, or does not fit the bundle."""


class SourceError(DffEdgeError, OSError):
    """A source of frames cannot be opened, or failed before its end."""


class FrameError(DffEdgeError, ValueError):
    """One frame cannot be used: wrong type, empty, or too large."""


class SinkError(DffEdgeError, OSError):
    """A sink cannot be opened or written to."""


class PipelineError(DffEdgeError, RuntimeError):
    """The pipeline was used after close, or one of its stages failed."""


class OutOfMemoryError(DffEdgeError, MemoryError):
    """Memory is exhausted, or the system's limit on threads."""


class ForkError(DffEdgeError, RuntimeError):
    """An object was used in a forked child of the process that opened it."""


class DiskError(DffEdgeError, OSError):
    """A place cannot be written to, or has too little room."""


class MissingDependencyError(DffEdgeError, ImportError):
    """An optional package is needed and not installed."""


def words_of(error: BaseException) -> str:
    """Return the first line of an error's message; never empty."""
    text = getattr(error, "err", None) or str(error)  # OpenCV's own message, without its files
    lines = text.strip().splitlines()
    words = lines[0][:_MAX_WORDS] if lines else ""
    if is_out_of_memory(error):
        return f"out of memory ({words})" if words else "out of memory"
    return words or type(error).__name__


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that memory is exhausted, by its type or message."""
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        return True
    if type(error).__module__ == "cv2" and getattr(error, "code", None) == _OPENCV_NO_MEMORY:
        return True
    return any(words in str(error) for words in ("bad_alloc", "failed to map segment"))


@contextmanager
def raises_out_of_memory(what: str) -> Iterator[None]:
    """Raise ``OutOfMemoryError`` when memory is exhausted inside.

    Args:
        what: what was being done, the start of the message.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, DffEdgeError) or not is_out_of_memory(error):
            raise
        raise OutOfMemoryError(
            f"{what}: {words_of(error)}. Use smaller frames or fewer in flight (depth), end other "
            "programs, or raise the limit (ulimit -v, that of the container)."
        ) from error


def require(module_name: str, *, extra: str | None = None, purpose: str) -> ModuleType:
    """Import an optional dependency, or raise with the command that installs it.

    Where several packages provide the module, one installed over another, a warning is logged.

    Args:
        module_name: the module to import, for example ``"onnxruntime"``.
        extra: the extra of dff-edge that provides it, with others that are needed then; None where
            its own package is enough.
        purpose: the start of the sentence in the message, what needs the package.

    Raises:
        MissingDependencyError: when the module cannot be imported: it is not installed, or is
            broken, or a library of the system is missing.
    """
    # Imported here: the metadata of packages takes longer to load than the rest of this module.
    from dff_edge.packages import import_advice, warn_of_overlaid

    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # a broken package raises anything
        reason = str(error).strip().partition("\n")[0][:500] or type(error).__name__
        raise MissingDependencyError(
            f"{purpose} needs '{module_name}', which could not be imported ({reason}). "
            f"{import_advice(error, module_name, extra=extra)}"
        ) from error
    warn_of_overlaid(module_name)
    return module
