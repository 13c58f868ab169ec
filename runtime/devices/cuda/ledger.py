"""Resources that a device has to free: each once, at the latest when the device closes.

Finalisers call no CUDA function: they may run in any thread, in the middle of a capture. Dropped
resources are noted, and freed by the next call that may free memory.
"""

from __future__ import annotations

import itertools
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any

from dff_edge.errors import PipelineError


class Handle:
    """A resource of CUDA, until it is freed.

    Args:
        value: the handle of the driver's package.
        free: called with the value, frees it.
    """

    def __init__(self, value: Any, free: Callable[[Any], None]) -> None:
        self._value = value
        self._free: Callable[[Any], None] | None = free

    def get(self) -> Any:
        """The value.

        Raises:
            PipelineError: when it is freed.
        """
        if self._free is None:
            raise PipelineError("the CUDA device is closed, and its resources with it.")
        return self._value

    def free(self) -> None:
        """Free the resource, unless that was done."""
        free, self._free = self._free, None
        value, self._value = self._value, None
        if free is not None:
            free(value)


class Ledger:
    """Resources of one kind that CUDA has allocated."""

    def __init__(self) -> None:
        self._held: dict[int, Handle] = {}
        self._dropped: deque[int] = deque()
        self._keys = itertools.count()

    def hold(self, owner: object, value: Any, free: Callable[[Any], None]) -> Handle:
        """Register a resource, to be freed some time after its owner is gone.

        Args:
            owner: the Python object that represents the resource.
            value: the handle of the driver's package.
            free: called with the value, frees it; must not refer to ``owner``.
        """
        key = next(self._keys)
        handle = self._held[key] = Handle(value, free)
        weakref.finalize(owner, self._dropped.append, key).atexit = False
        return handle

    def free_dropped(self) -> None:
        """Free everything whose owner is gone."""
        while self._dropped:
            handle = self._held.pop(self._dropped.popleft(), None)
            if handle is not None:
                handle.free()

    def free_all(self) -> list[Exception]:
        """Free everything, the newest first; return the errors."""
        errors: list[Exception] = []
        while self._held:
            _, handle = self._held.popitem()
            try:
                handle.free()
            except Exception as error:  # the others are freed nevertheless
                errors.append(error)
        return errors
