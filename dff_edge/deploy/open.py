"""Targets by name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from dff_edge.deploy.target import BuildOptions, Progress, Target
from dff_edge.errors import ConfigError
from dff_edge.runtime.engines.backends import load_function, targets
from dff_edge.runtime.engines.cache import EngineCache


@contextmanager
def open_target(
    name: str,
    cache: EngineCache,
    *,
    plugin: bool = True,
    workspace_mb: int | None = None,
    progress: Progress = lambda text: None,
) -> Iterator[Target]:
    """Find a target on this machine, and release its device afterwards.

    Args:
        name: of a backend's target: "cpu", "cuda" or "tensorrt".
        cache, plugin, workspace_mb, progress: see ``BuildOptions``.

    Raises:
        ConfigError: another name, or an option that the target does not have.
        MissingDependencyError: a package or a library is missing.
        EngineError: there is no such device.
    """
    backend = targets().get(name)
    if backend is None or backend.builder is None:
        raise ConfigError(f"the target is '{name}', expected one of {', '.join(targets())}.")
    options = BuildOptions(cache, plugin, workspace_mb, progress)
    with load_function(backend.builder)(options) as target:
        yield target
