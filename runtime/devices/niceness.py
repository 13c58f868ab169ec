"""Threads of lower priority than the rest of their process, without special rights.

On Linux the nice value is each thread's own, and a new thread has that of the thread which makes
it: so have the threads that a library makes for a session when the session is made in such a
thread. Elsewhere the nice value is the process's, and nothing is changed.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable
from typing import TypeVar

from dff_edge.lifetime import Worker

# A tenth of the usual share of a core where both want it (weight 110 of 1024), and woken threads of
# the usual priority take its core at once. The lowest priority would starve beside other programs.
LOWER_BY = 10
_LOWEST = 19

_log = logging.getLogger("dff_edge.runtime")
_T = TypeVar("_T")


def has_thread_priorities() -> bool:
    """Whether threads of one process can differ in priority here."""
    return sys.platform == "linux"


def lower_priority() -> None:
    """Lower the priority of the calling thread for the rest of its life, where that can be done."""
    if not has_thread_priorities():
        return
    thread = threading.get_native_id()
    try:
        now = os.getpriority(os.PRIO_PROCESS, thread)
        os.setpriority(os.PRIO_PROCESS, thread, min(now + LOWER_BY, _LOWEST))
    except OSError as error:  # forbidden by a sandbox
        _log.warning("the priority of a thread could not be lowered: %s", error)


def call_at_lower_priority(function: Callable[[], _T]) -> _T:
    """Call a function in a thread of lower priority, which threads that it starts inherit.

    Raises:
        Whatever the function raises.
    """
    outcome: list[_T] = []
    failure: list[BaseException] = []

    def call() -> None:
        lower_priority()
        try:
            outcome.append(function())
        except BaseException as error:  # raised where it is waited for
            failure.append(error)

    thread = Worker(call, "dff-edge opening")
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return outcome[0]
