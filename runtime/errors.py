"""The errors that dff-edge raises, one tree; each is also the builtin it resembles.

A message says what was received, what was expected and what to do. The command
line turns any ``DffEdgeError`` into one line on stderr and exit code 1.
"""

from __future__ import annotations

import importlib
from types import ModuleType


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


class MissingDependencyError(DffEdgeError, ImportError):
    """An optional package is needed and not installed."""


def require(module_name: str, *, extra: str, purpose: str) -> ModuleType:
    """Import an optional dependency, or say how to install it.

    Args:
        module_name: the module to import, for example ``"onnxruntime"``.
        extra: the extra of dff-edge that brings it.
        purpose: what needs it, the start of the sentence in the message.

    Raises:
        MissingDependencyError: when the module cannot be imported.
    """
    try:
        return importlib.import_module(module_name)
    except ImportError as error:
        raise MissingDependencyError(
            f"{purpose} needs '{module_name}', which could not be imported ({error}). "
            f"Install it with: pip install 'dff-edge[{extra}]'"
        ) from error
