"""The stack on which a thread's handlers of signals run, kept as it was.

OpenVINO gives the thread that compiles a graph an alternate stack (sigaltstack), and frees its
memory with the graph, also from another thread. Python's handlers, Ctrl-C's among them, run on
it: after that the next signal ends the process with a segmentation fault.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_SS_ONSTACK, _SS_DISABLE = 1, 2


class SignalStack(ctypes.Structure):
    """``stack_t`` of Linux."""

    _fields_ = (("sp", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


def signal_stack() -> SignalStack:
    """Return the alternate stack of the calling thread; ``flags`` is 2 where there is none."""
    found = SignalStack()
    ctypes.CDLL(None).sigaltstack(None, ctypes.byref(found))
    return found


@contextmanager
def kept_signal_stack() -> Iterator[None]:
    """Give the calling thread back the alternate stack that it had; on Linux, elsewhere nothing."""
    if sys.platform != "linux":
        yield
        return
    before = signal_stack()
    try:
        yield
    finally:
        before.flags &= ~_SS_ONSTACK  # reported while a handler runs on it, not to be set
        set_stack = ctypes.CDLL(None).sigaltstack
        if set_stack(ctypes.byref(before), None) != 0:  # too small for registers in use by now
            set_stack(ctypes.byref(SignalStack(None, _SS_DISABLE, 0)), None)
