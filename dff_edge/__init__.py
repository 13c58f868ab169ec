"""Deep Feature Flow on edge devices: train, export, calibrate, run.

Import what you need by its full name, for example ``from dff_edge.runtime.warp import
warp_features``. Importing this package alone loads nothing else.
"""

from __future__ import annotations

__all__ = ["__version__"]


def __getattr__(name: str) -> str:
    if name == "__version__":
        # On demand: importlib.metadata is slow to load, and few ask for the version.
        from importlib.metadata import version

        return version("dff-edge")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
