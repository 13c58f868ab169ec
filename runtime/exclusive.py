"""Calls by one thread at a time: a second one does not wait, its error names the first."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from dff_edge.errors import PipelineError


class ExclusiveCalls:
    """Lets one thread at a time into the calls of a pipeline; its calls may be nested.

    Attributes:
        lock: held by the thread that is in a call.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._caller: tuple[int, str] | None = None  # its thread, and a description of the call

    @contextmanager
    def enter(self, call: str) -> Iterator[None]:
        """Exclude other threads for the duration of a call, and note it for their errors.

        Args:
            call: name of the method.

        Raises:
            PipelineError: when another thread is in a call.
        """
        caller = self._caller
        if caller is not None and caller[0] != threading.get_ident():
            if self.lock.acquire(blocking=False):  # an interrupted call left its name
                self.lock.release()
            else:
                raise PipelineError(
                    f"{threading.current_thread().name} called {call}() while {caller[1]} on the "
                    "same pipeline. Use it from one thread at a time: open a pipeline for each, or "
                    "hold a lock around its calls."
                )
        with self.lock:
            try:
                here = threading.current_thread()
                self._caller = (threading.get_ident(), f"{here.name} was in {call}()")
                yield
            finally:
                self._caller = caller
