"""The floating-point mode of a thread, kept as it was.

ONNX Runtime's option ``session.set_denormal_as_zero`` is meant for its own threads, whose
networks are slow on subnormal numbers. It is set for the thread that makes the session too, where
a program's own numbers below 1e-307 (1e-37 in float32) would become zero from then on.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_MAX_FENV_BYTES = 256  # ``fenv_t`` has 32 on x86-64, 8 on 64-bit Arm


@contextmanager
def kept_float_mode() -> Iterator[None]:
    """Give the calling thread back the floating-point environment that it had (C99's fenv)."""
    if sys.platform == "win32":  # whose C library is no part of the process as a whole
        yield
        return
    mathematics = ctypes.CDLL(None)  # Python itself is linked with it
    mode = ctypes.create_string_buffer(_MAX_FENV_BYTES)
    mathematics.fegetenv(mode)
    try:
        yield
    finally:
        mathematics.fesetenv(mode)
