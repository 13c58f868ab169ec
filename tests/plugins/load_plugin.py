"""Loads the plugin library named on the command line, and prints what TensorRT makes of it.

With --refuse it also has the creator refuse something, which is logged.

A program of its own: a process can load a library once, and what loads it is native code.
"""

from __future__ import annotations

import json
import sys

import numpy as np
import tensorrt_rtx_libs  # noqa: F401  loads the libraries that the bindings are linked to
from tensorrt_rtx_bindings import tensorrt_rtx as trt


class Logger(trt.ILogger):
    """Keeps the errors."""

    def __init__(self) -> None:
        trt.ILogger.__init__(self)
        self.errors: list[str] = []

    def log(self, severity: trt.ILogger.Severity, message: str) -> None:
        if severity == trt.ILogger.Severity.ERROR:
            self.errors.append(message)


def main() -> None:
    logger = Logger()
    builder = trt.Builder(logger)
    registry = builder.get_plugin_registry()
    handle = registry.load_library(sys.argv[1])
    creator = registry.get_creator("DffWarp", "1", "")

    def create(name: str, value: np.ndarray, kind: trt.PluginFieldType) -> bool:
        fields = trt.PluginFieldCollection([trt.PluginField(name, value, kind)])
        return creator.create_plugin("layer", fields, trt.TensorRTPhase.BUILD) is not None

    seen = {
        "is_loaded": handle is not None,
        "creators": [(c.name, c.plugin_version, c.plugin_namespace) for c in registry.all_creators],
        "fields": [field.name for field in creator.field_names],
        "is_made": create("channels_last", np.array([0], np.int32), trt.PluginFieldType.INT32),
    }
    if "--refuse" in sys.argv:
        nonsense = create("no", np.array([0], np.int32), trt.PluginFieldType.INT32)
        seen |= {"is_made_of_nonsense": nonsense, "errors": logger.errors}
    sys.stdout.write(json.dumps(seen))


if __name__ == "__main__":
    main()
