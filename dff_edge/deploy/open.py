"""Targets by name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from dff_edge.deploy.target import Progress, Target
from dff_edge.errors import ConfigError
from dff_edge.names import TargetName
from dff_edge.runtime.engines.cache import EngineCache
from dff_edge.runtime.engines.deployed import check_packages, find_platform


@contextmanager
def open_target(
    name: TargetName,
    cache: EngineCache,
    *,
    plugin: bool = True,
    workspace_mb: int | None = None,
    progress: Progress = lambda text: None,
) -> Iterator[Target]:
    """Find a target on this machine, and let go of its device afterwards.

    Args:
        name: "cpu", "cuda" or "tensorrt".
        cache: where TensorRT's measurements are kept.
        plugin: for "tensorrt", whether the warp is the plugin, or the portable GridSample form.
        workspace_mb: for "tensorrt", the most scratch memory that an engine may need.
        progress: called with lines about long builds.

    Raises:
        ConfigError: an option is not the target's.
        MissingDependencyError: a package or a library is missing.
        EngineError: there is no such device.
    """
    if name != "tensorrt" and (workspace_mb is not None or not plugin):
        raise ConfigError(
            f"the target is {name}; a limit of the workspace and the portable warp are options of "
            "tensorrt alone."
        )
    if name == "cpu":
        from dff_edge.deploy.cpu import CpuTarget

        yield CpuTarget(find_platform("cpu"))
        return
    from dff_edge.runtime.devices.cuda.device import open_device

    check_packages(name)
    device = open_device()
    try:
        platform = find_platform(name, device, plugin=plugin)
        if name == "cuda":
            from dff_edge.deploy.cuda import CudaTarget

            yield CudaTarget(platform)
        else:
            from dff_edge.deploy.tensorrt import TensorRtTarget

            yield TensorRtTarget(platform, cache, workspace_mb=workspace_mb, progress=progress)
    finally:
        device.close()
