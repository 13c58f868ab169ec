"""That FFmpeg refuses to allocate more than a picture takes."""

import ctypes

import av._core

from dff_edge.runtime.sources.decoding.allocations import MAX_ALLOCATION_BYTES, bound_allocations


def test_larger_allocations_are_refused():
    assert bound_allocations()
    library = ctypes.CDLL(av._core.__file__)
    library.av_malloc.argtypes, library.av_malloc.restype = (ctypes.c_size_t,), ctypes.c_void_p
    library.av_free.argtypes = (ctypes.c_void_p,)
    enough = library.av_malloc(MAX_ALLOCATION_BYTES // 2)
    library.av_free(enough)

    assert enough is not None
    assert library.av_malloc(MAX_ALLOCATION_BYTES + 1) is None


def test_a_library_without_that_bound_is_told(monkeypatch, caplog):
    monkeypatch.setattr(ctypes, "CDLL", lambda path: object())

    assert not bound_allocations.__wrapped__()
    assert "cannot be bounded here" in caplog.text
