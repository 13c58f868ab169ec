"""The errors that dff-edge raises, one tree; each is also the builtin it resembles.

A message says what was received, what was expected and what to do. The command
line turns any ``DffEdgeError`` into one line on stderr and exit code 1.
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
    """Base of every error that a user of dff-edge can cause and mend."""


class ShapeError(DffEdgeError, ValueError):
    """An array has a shape or dtype that the call does not take."""


class ConfigError(DffEdgeError, ValueError):
    """A configuration file or option holds a value that is not allowed."""


class CheckpointError(DffEdgeError, ValueError):
    """A checkpoint is incomplete, damaged or does not fit its model."""


class BundleError(DffEdgeError, ValueError):
    """A bundle is incomplete, damaged, tampered with, or of a newer schema."""


class BundleReplacedError(BundleError):
    """Another process put another bundle in the place of one that is open."""


class EngineError(DffEdgeError, RuntimeError):
    """A graph could not be loaded or run by the engine that was asked for."""


class ExportError(DffEdgeError, RuntimeError):
    """An exported graph does not compute what its torch model computes."""


class CalibrationError(DffEdgeError, ValueError):
    """Calibration data is missing, too little, or does not fit the bundle."""


class SourceError(DffEdgeError, OSError):
    """A source of frames cannot be opened, or gave out before its end."""


class FrameError(DffEdgeError, ValueError):
    """One frame cannot be used: wrong type, empty, or of absurd size."""


class SinkError(DffEdgeError, OSError):
    """A sink cannot be opened or written to."""


class PipelineError(DffEdgeError, RuntimeError):
    """The pipeline was used after close, or one of its stages failed."""


class OutOfMemoryError(DffEdgeError, MemoryError):
    """Memory gave out, or what the system grants of threads."""


class ForkError(DffEdgeError, RuntimeError):
    """What a process opened was used in a forked child of it."""


class DiskError(DffEdgeError, OSError):
    """A place cannot be written to, or has too little room."""


class MissingDependencyError(DffEdgeError, ImportError):
    """An optional package is needed and not installed."""


def words_of(error: BaseException) -> str:
    """Return the first line of what an error says; never empty."""
    text = getattr(error, "err", None) or str(error)  # OpenCV's own words, without its files
    lines = text.strip().splitlines()
    words = lines[0][:_MAX_WORDS] if lines else ""
    if is_out_of_memory(error):
        return f"out of memory ({words})" if words else "out of memory"
    return words or type(error).__name__


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory gave out, in the words of Python, the system, OpenCV, C++ or the loader."""
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        return True
    if type(error).__module__ == "cv2" and getattr(error, "code", None) == _OPENCV_NO_MEMORY:
        return True
    return any(words in str(error) for words in ("bad_alloc", "failed to map segment"))


@contextmanager
def memory_told(what: str) -> Iterator[None]:
    """Raise ``OutOfMemoryError`` where memory gives out inside.

    Args:
        what: was being done, the start of the message.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, DffEdgeError) or not is_out_of_memory(error):
            raise
        raise OutOfMemoryError(
            f"{what}: {words_of(error)}. Take smaller frames or fewer in flight (depth), end other "
            "programs, or raise the limit (ulimit -v, that of the container)."
        ) from error


def require(module_name: str, *, extra: str | None = None, purpose: str) -> ModuleType:
    """Import an optional dependency, or say how to install it here.

    Where several packages brought the module, over each other, a warning is logged.

    Args:
        module_name: the module to import, for example ``"onnxruntime"``.
        extra: the extra of dff-edge that brings it, with others that are needed then; None where
            its own package is enough.
        purpose: what needs it, the start of the sentence in the message.

    Raises:
        MissingDependencyError: when the module cannot be imported: it is not installed, or is
            broken, or a library of the system is missing.
    """
    # Here, for the metadata of packages takes longer to load than all else of this module.
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
