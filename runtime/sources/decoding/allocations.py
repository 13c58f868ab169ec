"""A bound on what FFmpeg allocates for a camera.

FFmpeg allocates as much as a camera demands: 2 GB for a session description that is announced as so
long, more and more for a picture that never ends. The only control is its bound for a single
allocation (``-max_alloc`` of its command; PyAV does not expose it), and it applies to the whole
process.
"""

from __future__ import annotations

import ctypes
import functools
import logging

import av._core

from dff_edge.runtime.sources.decoding.picture_size import MAX_PICTURE_PX

MAX_ALLOCATION_BYTES = 4 * MAX_PICTURE_PX  # the largest picture that is decoded, with room

_LOG = logging.getLogger("dff_edge.runtime")


@functools.cache
def bound_allocations() -> bool:
    """Make FFmpeg refuse larger allocations; return whether that was possible."""
    try:
        # The symbol is looked up in the libraries that PyAV's own is linked with.
        set_bound = ctypes.CDLL(av._core.__file__).av_max_alloc
    except (OSError, AttributeError):
        _LOG.warning("FFmpeg's allocations cannot be bounded here: a hostile camera may take more")
        return False
    set_bound.argtypes, set_bound.restype = (ctypes.c_size_t,), None
    set_bound(MAX_ALLOCATION_BYTES)
    return True
