"""Targets: how the engines of one kind of runtime are built."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from dff_edge.bundle.contract import GraphContract, GraphName, Precision
from dff_edge.bundle.reader import Bundle
from dff_edge.errors import ConfigError
from dff_edge.runtime.devices.base import Device
from dff_edge.runtime.engines.cache import EngineCache
from dff_edge.runtime.engines.deployed import Platform, TargetName, check_packages, find_platform

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Built:
    """An engine as it was built.

    Attributes:
        data: its bytes.
        summary: what the builder says of layers and formats.
    """

    data: bytes
    summary: dict[str, Any] = field(default_factory=dict)


class Target(Protocol):
    """What engines are built for."""

    @property
    def platform(self) -> Platform:
        """What its engines depend on."""

    @property
    def device(self) -> Device:
        """Where they run."""

    @property
    def graphs(self) -> tuple[GraphName, ...]:
        """Which graphs of a bundle it needs."""

    @property
    def options(self) -> dict[str, Any]:
        """What its builder is told beyond the platform's flags."""

    def refusal(self, precision: Precision) -> str | None:
        """Why it takes no graphs of a precision; None when it does."""

    def build(self, graph: bytes, *, name: str, kind: GraphName, contract: GraphContract) -> Built:
        """Build the engine of a graph.

        Args:
            graph: the ONNX file's bytes, verified.
            name: what messages call it.
            kind: which of the bundle's graphs.
            contract: what its inputs and outputs must be.

        Raises:
            EngineError: when it cannot be built; the message says why.
            BundleError: when the graph must not be given to this builder.
        """


def precisions_of(target: Target, bundle: Bundle) -> tuple[Precision, ...]:
    """Precisions that a bundle holds for a target and that it takes."""
    held = bundle.precisions_for(target.platform.flavour)
    return tuple(p for p in held if target.refusal(p) is None)


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
