"""Deep Feature Flow on edge devices: train, export, calibrate, run.

Import what you need by its full name, for example ``from dff_edge.runtime.kernels.warp import
warp_features``. Importing this package alone loads nothing else.
"""

from __future__ import annotations

import os

__all__ = ["__version__"]

# Before anybody imports onnxruntime, which starts its telemetry at once: a thread that asks for its
# maker's host, an id and a database under ~/.cache. It also hangs the end of forked children. Who
# wants it sets ORT_DISABLE_TELEMETRY=0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def __getattr__(name: str) -> str:
    if name == "__version__":
        # On demand: importlib.metadata is slow to load, and few ask for the version.
        from importlib.metadata import version

        return version("dff-edge")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
