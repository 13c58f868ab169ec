"""A target: the builder of the engines of one kind of runtime."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from dff_edge.bundle.contract import GraphContract
from dff_edge.bundle.reader import Bundle
from dff_edge.errors import ConfigError
from dff_edge.names import GraphName, Precision
from dff_edge.runtime.devices.base import Device
from dff_edge.runtime.engines.backends import targets
from dff_edge.runtime.engines.cache import EngineCache
from dff_edge.runtime.engines.deployed import Platform

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Built:
    """An engine just built.

    Attributes:
        data: its bytes.
        summary: the builder's report on layers and formats.
    """

    data: bytes
    summary: dict[str, Any] = field(default_factory=dict)


class Target(Protocol):
    """A backend on this machine that engines are built for."""

    @property
    def platform(self) -> Platform:
        """The versions and the device that its engines depend on."""

    @property
    def device(self) -> Device:
        """The device that they run on."""

    @property
    def graphs(self) -> tuple[GraphName, ...]:
        """The graphs of a bundle that it needs."""

    @property
    def options(self) -> dict[str, Any]:
        """Options of its builder beyond the platform's flags."""

    def build(self, graph: bytes, *, name: str, kind: GraphName, contract: GraphContract) -> Built:
        """Build the engine of a graph.

        Args:
            graph: the ONNX file's bytes, verified.
            name: name of the graph in messages.
            kind: name of the graph in the bundle.
            contract: its expected inputs and outputs.

        Raises:
            EngineError: when it cannot be built, with the reason.
            BundleError: when the graph is not valid for this builder.
        """


@dataclass(frozen=True)
class BuildOptions:
    """Options of building engines.

    Attributes:
        cache: where TensorRT's measurements are kept.
        plugin: for TensorRT, whether the warp is the plugin, or the portable GridSample form.
        workspace_mb: for TensorRT, maximum scratch memory of an engine.
        progress: called with lines about long builds.
    """

    cache: EngineCache
    plugin: bool = True
    workspace_mb: int | None = None
    progress: Progress = lambda text: None

    def refuse_those_of_tensorrt(self, target: str) -> None:
        """Raise for options that another target does not have.

        Raises:
            ConfigError: one of them was given.
        """
        if self.workspace_mb is not None or not self.plugin:
            raise ConfigError(
                f"the target is {target}; a limit of the workspace and the portable warp are "
                "options of tensorrt alone."
            )


def precisions_of(target: Target, bundle: Bundle) -> tuple[Precision, ...]:
    """Return the precisions that a bundle holds for a target and that it supports."""
    held = bundle.precisions_for(target.platform.flavour)
    return tuple(p for p in held if refusal_of(target, p) is None)


def refusal_of(target: Target, precision: Precision) -> str | None:
    """Return why a target does not support a precision; None when it does."""
    return targets()[target.platform.target].lacks.get(precision)
