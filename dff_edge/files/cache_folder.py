"""The folder of files that can be made again: engines, and bundles of shipped models."""

from __future__ import annotations

import os
from pathlib import Path

CACHE_VARIABLE = "DFF_EDGE_CACHE"


def default_cache_folder() -> Path:
    """Return ``$DFF_EDGE_CACHE``, or ``dff-edge`` in ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    named = os.environ.get(CACHE_VARIABLE)
    if named:
        return Path(named).absolute()
    shared = os.environ.get("XDG_CACHE_HOME", "")
    # XDG: a relative path is to be ignored.
    root = Path(shared) if os.path.isabs(shared) else Path.home() / ".cache"
    return root / "dff-edge"
