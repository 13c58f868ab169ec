"""A backend of the tests' own: one file, this, and one row, ``ROW``.

It computes by ONNX Runtime and counts what is opened; its engines are the graphs with a mark of
their builder in front.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dff_edge.bundle.contract import GraphContract
from dff_edge.bundle.reader import Bundle
from dff_edge.deploy.target import BuildOptions, Built
from dff_edge.errors import EngineError
from dff_edge.names import GraphName, Precision
from dff_edge.runtime.devices.cpu import CpuDevice
from dff_edge.runtime.engines.backends import BACKENDS, Backend, Requirement
from dff_edge.runtime.engines.base import Engine
from dff_edge.runtime.engines.cache import EngineCache
from dff_edge.runtime.engines.deployed import Platform, open_deployed
from dff_edge.runtime.engines.onnxruntime import OrtEngine
from dff_edge.runtime.engines.open_cpu import open_on_cpu
from dff_edge.runtime.engines.options import EngineOptions
from dff_edge.runtime.engines.subnets import Opened

MARK = b"fake:"

ROW = Backend(
    name="fake",
    summary="a backend of the tests",
    device="cpu",
    flavour="ort",
    lacks={"int8": "the fake has no integers"},
    requirements=(Requirement("no_such_backend"),),
    opener="tests.runtime.engines.fake_backend:open_fake",
    target="fake",
    builder="tests.runtime.engines.fake_backend:open_target",
)


def register() -> None:
    """Add the row, as a backend of the package has it in the table."""
    BACKENDS[ROW.name] = ROW


class FakeEngine(OrtEngine):
    """A graph behind the mark."""

    opened = 0

    def __init__(self, data: bytes, *, name: str, threads: int | None = None) -> None:
        if not data.startswith(MARK):
            raise EngineError(f"the {name} engine was not built by the fake.")
        super().__init__(data[len(MARK) :], name=name, threads=threads)
        FakeEngine.opened += 1


def platform() -> Platform:
    def load(data: bytes, *, name: str, graph: GraphName, threads: int | None) -> Engine:
        return FakeEngine(data, name=name, threads=threads)

    return Platform("fake", "Fake 1.0", "this machine", "ort", "", load)


def open_fake(bundle: Bundle, precision: Precision, options: EngineOptions) -> Opened:
    here, cache = platform(), EngineCache()

    def open_graph(graph: GraphName, threads: int) -> Engine:
        return open_deployed(bundle, precision, graph, here, cache, threads=threads)

    return open_on_cpu(bundle, precision, options, open_graph)


class FakeTarget:
    graphs: tuple[GraphName, ...] = ("feature", "flow", "task")

    def __init__(self) -> None:
        self.platform = platform()
        self.device = CpuDevice()
        self.options: dict[str, Any] = {}

    def build(self, graph: bytes, *, name: str, kind: GraphName, contract: GraphContract) -> Built:
        return Built(MARK + graph)


@contextmanager
def open_target(options: BuildOptions) -> Iterator[FakeTarget]:
    options.refuse_those_of_tensorrt("fake")
    yield FakeTarget()
