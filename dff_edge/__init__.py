"""Deep Feature Flow on edge devices: train, export, calibrate, run.

Import names from their modules, for example ``from dff_edge.runtime.kernels.warp import
warp_features``. Importing this package alone loads nothing else.
"""

from __future__ import annotations

import os

__all__ = ["__version__"]

# Set before onnxruntime is imported, which starts its telemetry at once: a thread that looks up its
# vendor's host, an id and a database under ~/.cache. It also hangs the end of forked children. Set
# ORT_DISABLE_TELEMETRY=0 to allow it.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def __getattr__(name: str) -> str:
    if name == "__version__":
        # On demand: importlib.metadata is slow to load, and the version is rarely needed.
        from importlib.metadata import version

        return version("dff-edge")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
