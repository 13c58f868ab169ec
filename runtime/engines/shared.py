"""Engines that several pipelines share: their calls take turns, and the last to close frees them.

Graph, weights and working memory of a network are in memory once. Calls of one engine must not
overlap, so each waits for those that were made before it: with one call of each pipeline at a time,
all get equal shares, and a call waits for at most one of every other pipeline. Calls of different
engines run side by side as before.

ONNX Runtime allows overlapping calls of a session, but each takes working memory of its own and
shares the session's threads with the others; other engines keep state. `benchmarks/streams.py
--side-by-side` measures that way.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from dff_edge.bundle.tensors import TensorSpec
from dff_edge.errors import EngineError
from dff_edge.runtime.devices.base import Buffer, Stream
from dff_edge.runtime.engines.base import Engine, enqueue_run
from dff_edge.runtime.engines.subnets import Opened


class FairLock:
    """A lock that threads get in the order in which they asked for it.

    For threads that Ctrl-C does not interrupt: not for the main thread.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._places: deque[threading.Lock] = deque()  # the holder's, then those that wait

    def __enter__(self) -> None:
        place = threading.Lock()
        place.acquire()
        with self._guard:
            self._places.append(place)
            is_first = self._places[0] is place
        if not is_first:
            place.acquire()

    def __exit__(self, *_: object) -> None:
        with self._guard:
            self._places.popleft()
            if self._places:
                self._places[0].release()


class _Shared:
    """An engine and the number of pipelines that have not closed it."""

    def __init__(self, engine: Engine, users: int) -> None:
        self.engine = engine
        self.turns = FairLock()
        self._users = users
        self._guard = threading.Lock()

    def leave(self) -> None:
        with self._guard:
            self._users -= 1
            is_last = self._users == 0
        if is_last:
            self.engine.close()


class SharedEngine:
    """One pipeline's hold on an engine of the CPU that others hold too. See ``Engine``."""

    def __init__(self, shared: _Shared) -> None:
        self._shared = shared
        self._is_open = True

    @property
    def name(self) -> str:
        """Name of the engine."""
        return self._shared.engine.name

    @property
    def inputs(self) -> dict[str, TensorSpec]:
        """Inputs by name."""
        return self._shared.engine.inputs

    @property
    def outputs(self) -> dict[str, TensorSpec]:
        """Outputs by name."""
        return self._shared.engine.outputs

    def run(self, inputs: Mapping[str, NDArray[Any]], outputs: Mapping[str, NDArray[Any]]) -> None:
        """Compute ``outputs`` from ``inputs`` when it is this call's turn. See ``Engine.run``.

        Raises:
            EngineError: closed by this holder; the others may still run it.
        """
        if not self._is_open:
            raise EngineError(f"The {self.name} engine is closed; open a new one to run it.")
        with self._shared.turns:
            self._shared.engine.run(inputs, outputs)

    def enqueue(
        self, inputs: Mapping[str, Buffer], outputs: Mapping[str, Buffer], stream: Stream
    ) -> None:
        """Enqueue ``run`` on a stream of the CPU. See ``Engine.enqueue``."""
        enqueue_run(self, inputs, outputs, stream)

    def close(self) -> None:
        """Let go of the engine; the last holder to do so frees it. Closing twice is allowed."""
        if self._is_open:
            self._is_open = False
            self._shared.leave()


def share_engines(opened: Opened, users: int) -> list[Opened]:
    """Share engines of the CPU among several users.

    Args:
        opened: engines and their device; owned by the users from now on.
        users: how many.

    Returns:
        One for each user, which closes them when it is the last to be closed.
    """
    subnets = opened.subnets
    assert subnets.propagate is None  # an engine of a GPU
    feature, flow, task = (
        _Shared(engine, users) for engine in (subnets.feature, subnets.flow, subnets.task)
    )
    return [
        replace(
            opened,
            subnets=replace(
                subnets,
                feature=SharedEngine(feature),
                flow=SharedEngine(flow),
                task=SharedEngine(task),
            ),
            open_feature=None,
        )
        for _ in range(users)
    ]
