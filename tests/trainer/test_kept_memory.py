"""Freed memory is used again: counted in page faults, in a process of its own."""

import platform
import resource
import subprocess
import sys

import pytest

from dff_edge.trainer import kept_memory

BLOCK = 100 << 20  # bytes, three times what glibc keeps by itself
TAKE_TWICE = f"""
import ctypes, resource, sys
from dff_edge.trainer.kept_memory import keep_freed_memory

if sys.argv[1] == "kept":
    assert keep_freed_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
for _ in range(2):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = libc.malloc(ctypes.c_size_t({BLOCK}))
    ctypes.memset(block, 1, {BLOCK})
    libc.free(block)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
@pytest.mark.parametrize("mode", ["kept", "returned"])
def test_a_freed_block_is_used_again_without_new_pages(mode):
    pages = BLOCK // resource.getpagesize()

    done = subprocess.run(
        [sys.executable, "-c", TAKE_TWICE, mode], capture_output=True, text=True, check=True
    )

    first, second = map(int, done.stdout.split())
    assert first > 0.99 * pages
    assert second < 0.01 * pages if mode == "kept" else second > 0.99 * pages


def test_nothing_is_done_where_the_c_library_is_another(monkeypatch):
    monkeypatch.setattr(kept_memory.platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(kept_memory.ctypes, "CDLL", None)  # not even loaded

    assert not kept_memory.keep_freed_memory()
