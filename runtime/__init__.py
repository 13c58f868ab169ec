"""Run a bundle on the frames of a camera or a file: what robot code imports.

    from dff_edge.runtime import Pipeline, open_source

    with Pipeline.open("street", precision="int8") as pipeline, open_source("0") as camera:
        for result in pipeline.run(camera):
            print(result.frame.index, result.labels.shape)

Names are loaded on first use, so that importing this module is fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dff_edge.boxes import Detections as Detections
    from dff_edge.bundle.reader import Bundle as Bundle
    from dff_edge.errors import BundleError as BundleError
    from dff_edge.errors import ConfigError as ConfigError
    from dff_edge.errors import DffEdgeError as DffEdgeError
    from dff_edge.errors import EngineError as EngineError
    from dff_edge.errors import FrameError as FrameError
    from dff_edge.errors import MissingDependencyError as MissingDependencyError
    from dff_edge.errors import OutOfMemoryError as OutOfMemoryError
    from dff_edge.errors import PipelineError as PipelineError
    from dff_edge.errors import SinkError as SinkError
    from dff_edge.errors import SourceError as SourceError
    from dff_edge.frames import Frame as Frame
    from dff_edge.frames import Result as Result
    from dff_edge.runtime.drawing.style import Style as Style
    from dff_edge.runtime.engines.options import CudaOptions as CudaOptions
    from dff_edge.runtime.live import Runner as Runner
    from dff_edge.runtime.live import RunOptions as RunOptions
    from dff_edge.runtime.live import RunReport as RunReport
    from dff_edge.runtime.pipeline import Pipeline as Pipeline
    from dff_edge.runtime.pipelines import Pipelines as Pipelines
    from dff_edge.runtime.policy import Adaptive as Adaptive
    from dff_edge.runtime.policy import FixedInterval as FixedInterval
    from dff_edge.runtime.policy import FrameContext as FrameContext
    from dff_edge.runtime.policy import KeyFramePolicy as KeyFramePolicy
    from dff_edge.runtime.policy import Saving as Saving
    from dff_edge.runtime.sinks import FanOut as FanOut
    from dff_edge.runtime.sinks import open_sink as open_sink
    from dff_edge.runtime.sources import LiveSource as LiveSource
    from dff_edge.runtime.sources import open_source as open_source
    from dff_edge.runtime.together import run_together as run_together
    from dff_edge.runtime.trace import Trace as Trace

_HOMES = {
    "dff_edge.boxes": ("Detections",),
    "dff_edge.bundle.reader": ("Bundle",),
    "dff_edge.errors": (
        "BundleError",
        "ConfigError",
        "DffEdgeError",
        "EngineError",
        "FrameError",
        "MissingDependencyError",
        "OutOfMemoryError",
        "PipelineError",
        "SinkError",
        "SourceError",
    ),
    "dff_edge.frames": ("Frame", "Result"),
    "dff_edge.runtime.drawing.style": ("Style",),
    "dff_edge.runtime.engines.options": ("CudaOptions",),
    "dff_edge.runtime.live": ("RunOptions", "RunReport", "Runner"),
    "dff_edge.runtime.pipeline": ("Pipeline",),
    "dff_edge.runtime.pipelines": ("Pipelines",),
    "dff_edge.runtime.policy": (
        "Adaptive",
        "FixedInterval",
        "FrameContext",
        "KeyFramePolicy",
        "Saving",
    ),
    "dff_edge.runtime.sinks": ("FanOut", "open_sink"),
    "dff_edge.runtime.sources": ("LiveSource", "open_source"),
    "dff_edge.runtime.together": ("run_together",),
    "dff_edge.runtime.trace": ("Trace",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME_OF)  # noqa: PLE0605 - of strings


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
