"""Lifetime of open objects: while they are referenced, within the process, not beyond a fork.

Objects that have threads, native code or a position in a file are bound here when opened.

- Dropped without ``close``, they are closed nevertheless.
- They end before the interpreter does: a thread that returns from native code later aborts the
  process (exit code 134).
- In a forked child every use raises. The child has a copy without the threads. Waiting for
  one of them would never end, nor would freeing an engine, which waits for its own; closing would
  affect resources of the parent: its camera's session, its file's end. So nothing is freed there.

A thread keeps alive all that it refers to. So it gets the parts that it works on, or ``inner_of``
its owner, and never the owner itself.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import itertools
import logging
import math
import os
import threading
import time
import types
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar

from dff_edge.errors import ForkError, OutOfMemoryError

if TYPE_CHECKING:
    from typing_extensions import Self  # of typing since Python 3.11

EXIT_S = 30.0  # the end of the process waits at most so long for all threads together

_LOOK_S = 0.005

_LOG = logging.getLogger("dff_edge.runtime")
_T = TypeVar("_T")
_P = ParamSpec("_P")
_C = TypeVar("_C", bound="_Closable")


class _Closable(Protocol):
    def close(self) -> None: ...


class Closing(ABC):
    """Base of objects that are closed at the end of a ``with`` block."""

    @abstractmethod
    def close(self) -> None:
        """End the object; a second call does nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Worker(threading.Thread):
    """A thread of a bound object. It does not keep the process from ending."""

    def __init__(self, target: Callable[..., None], name: str, args: tuple[Any, ...] = ()) -> None:
        super().__init__(target=target, name=name, args=args, daemon=True)
        self._is_running = False

    def start(self) -> None:
        """Start the thread.

        Raises:
            OutOfMemoryError: the system allows no further thread.
        """
        try:
            super().start()
        except RuntimeError as error:
            raise OutOfMemoryError(
                f"the thread '{self.name}' could not be started: {error}. Check the limits of "
                "processes and memory of this user and container (ulimit -u, ulimit -v)."
            ) from error

    def run(self) -> None:
        self._is_running = True
        try:
            super().run()
        finally:
            self._is_running = False

    # After a join that Ctrl-C interrupts, Python considers the thread ended (CPython 89437);
    # after such a start, not started.

    def is_alive(self) -> bool:
        return self._is_running or super().is_alive()

    def join(self, timeout: float | None = None) -> None:
        if threading.current_thread() is self:
            return
        if timeout is None and _exit_until_s is not None:
            timeout = max(0.0, _exit_until_s - time.monotonic())
        until_s = math.inf if timeout is None else time.monotonic() + timeout
        with contextlib.suppress(RuntimeError):
            super().join(timeout)
        while self._is_running and time.monotonic() < until_s:
            time.sleep(_LOOK_S)


@dataclass(frozen=True, slots=True)
class _Life:
    """Record of an open object."""

    finalizer: weakref.finalize[..., Any]
    dropped: Callable[[], object] | None
    at_exit: Callable[[Any], object] | None
    process: int


_LIVES: dict[int, _Life] = {}  # in the order of their start
_numbers = itertools.count()
_exit_until_s: float | None = None  # after this time no wait is started


def bind(
    owner: _T,
    *,
    dropped: Callable[[], object] | None = None,
    at_exit: Callable[[_T], object] | None = None,
) -> weakref.finalize[..., _T]:
    """End an object with its last reference and with the process; refuse it in forked children.

    Args:
        owner: the opened object.
        dropped: ends it, and waits until it is over; called when ``owner`` is gone. It must not
            refer to ``owner``, and may be called after ``close``. None if there is nothing to do.
        at_exit: ends it when the process does; None for ``dropped``.

    Returns:
        A finaliser: calling it calls ``dropped``, once at most.
    """
    number = next(_numbers)
    finalizer = weakref.finalize(owner, _drop, number, dropped)
    finalizer.atexit = False  # in order, below
    _LIVES[number] = _Life(finalizer, dropped, at_exit, os.getpid())
    return finalizer


def closes_itself(open_: Callable[_P, _C]) -> Callable[_P, _C]:
    """Close the object that a function opens when it is dropped, or at the end of the process.

    No attribute of the object may refer to it.
    """

    @functools.wraps(open_)
    def opened(*arguments: _P.args, **options: _P.kwargs) -> _C:
        owner = open_(*arguments, **options)
        opener = threading.current_thread()

        def close_at_exit(owner: _C) -> None:
            if opener is threading.current_thread() or not opener.is_alive():  # may be using it
                owner.close()

        bind(owner, dropped=inner_of(owner).close, at_exit=close_at_exit)
        return owner

    return opened


def release(owner: object) -> None:
    """Unbind an object: another owner ends it. A forked child still refuses it."""
    for number, life in _lives():
        found = life.finalizer.peek()
        if found is not None and found[0] is owner:
            life.finalizer.detach()
            del _LIVES[number]
            bind(owner)


def inner_of(owner: _T) -> _T:
    """Return another object of the same attributes, for the threads of ``owner`` and for its end.

    Attributes set on one are seen on the other. ``owner`` can be dropped while the other is in use,
    as long as no attribute refers to it.
    """
    inner = object.__new__(type(owner))
    inner.__dict__ = owner.__dict__
    return inner


def is_inherited(owner: object) -> bool:
    """Return whether this process is a forked child of the one that opened an object."""
    return getattr(type(owner), "_is_inherited", False)


def _lives() -> list[tuple[int, _Life]]:
    # By number, in a list that is made atomically: other lives may end meanwhile.
    found = [(number, _LIVES.get(number)) for number in list(_LIVES)]
    return [(number, life) for number, life in found if life is not None]


def _drop(number: int, dropped: Callable[[], object] | None) -> None:
    if dropped is None:
        pass
    elif isinstance(threading.current_thread(), Worker):
        # Garbage collection runs anywhere, even where ``dropped`` would wait for itself.
        Worker(lambda: _end(dropped), "dff-edge ending").start()
    else:
        dropped()
    _LIVES.pop(number, None)  # last: if interrupted, it is done at exit


def _end(end: Callable[[], object]) -> None:
    try:
        end()
    except Exception:  # the others are ended nevertheless
        _LOG.exception("an object that was left open could not be closed")


def _end_all() -> None:
    """End open objects, the newest first, and all threads; Ctrl-C skips one that hangs."""
    global _exit_until_s
    _exit_until_s = time.monotonic() + EXIT_S
    for number, life in reversed(_lives()):
        _LIVES.pop(number, None)
        found = life.finalizer.detach()
        with contextlib.suppress(KeyboardInterrupt):
            if found is not None and life.at_exit is not None:
                _end(functools.partial(life.at_exit, found[0]))
            elif life.dropped is not None:
                _end(life.dropped)
    for thread in threading.enumerate():
        if isinstance(thread, Worker):
            with contextlib.suppress(KeyboardInterrupt):
                thread.join()
            if thread.is_alive():
                _LOG.warning("thread '%s' does not return from a call; left behind", thread.name)


def _refuse_inherited() -> None:
    """In a forked child: keep the parent's open objects, and refuse their use."""
    for _, life in _lives():
        found = life.finalizer.detach()
        if found is not None:
            owner = found[0]
            if is_inherited(owner):
                continue
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(owner))  # for ever
            owner.__class__ = _refusing(type(owner), life.process)
    _LIVES.clear()


def _refusing(kind: type[Any], process: int) -> type[Any]:
    def refuse(self: object, name: str) -> Any:
        if name == "__class__":  # for isinstance
            return kind
        raise ForkError(
            f"this {kind.__name__} was opened in process {process}, and process {os.getpid()} has "
            "it by fork, which copies no threads. Open one in the child, or start the child "
            "by 'spawn': multiprocessing.get_context('spawn')."
        )

    attributes = {"__slots__": (), "__getattribute__": refuse, "_is_inherited": True}
    return types.new_class(kind.__name__, (kind,), exec_body=lambda body: body.update(attributes))


atexit.register(_end_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_refuse_inherited)
