"""A run to be served: results made by hand, and a live source whose state the test sets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from dff_edge.frames import Frame, Result
from dff_edge.runtime.sinks import FanOut
from dff_edge.runtime.sources import LiveSource
from dff_edge.serve import open_server
from dff_edge.serve.server import Server

CLASSES = ("road", "sky")
COLOURS = ((128, 64, 128), (70, 130, 180))


class StandInSource(LiveSource):
    """Live, and in the state that it is told."""

    state = "live"

    def close(self) -> None:
        pass


def result(
    index: int, *, size: tuple[int, int] = (48, 96), shade: int = 100, age_s: float | None = 0.020
) -> Result:
    """Key frames are those whose index divides by 5; the latency is 1 ms a number."""
    frame = Frame(np.full((*size, 3), shade, np.uint8), index, index / 30)
    labels = np.zeros(size, np.uint8)
    is_key = index % 5 == 0
    stages = {"feature": 6.0} if is_key else {"flow": 2.0}
    key_index = index - index % 5
    return Result(frame, labels, key_index, 0.001 * index, {**stages, "task": 1.0}, age_s)


@contextmanager
def served(
    address: str = "127.0.0.1:0", sinks: FanOut | None = None
) -> Iterator[tuple[Server, StandInSource]]:
    """A server of a run that has no frame yet."""
    source = StandInSource("camera 0")
    sinks = FanOut(live=True) if sinks is None else sinks
    with (
        sinks,
        open_server(address, sources=["camera 0"], classes=CLASSES, colours=COLOURS) as server,
    ):
        server.channels[0].begin(source, sinks)
        yield server, source


@contextmanager
def served_several() -> Iterator[tuple[Server, list[StandInSource]]]:
    """A server of three sources, of which the last is not open yet."""
    names = ["camera 0", "camera 1", "camera 2"]
    with (
        FanOut(live=True) as sinks,
        open_server("127.0.0.1:0", sources=names, classes=CLASSES, colours=COLOURS) as server,
    ):
        sources = [StandInSource(name) for name in names]
        for number in (0, 1):
            server.channels[number].begin(sources[number], sinks)
        yield server, sources
