"""Memory that gives out, under a limit of the address space, in processes of their own."""

import subprocess
import sys

import cv2
import numpy as np
import pytest

from dff_edge.errors import OutOfMemoryError, is_out_of_memory, raises_out_of_memory, words_of
from dff_edge.lifetime import Worker
from tests.bundle.bundles import make_bundle

TIMEOUT_S = 60
LIMIT = """
import resource, sys
import numpy as np
import onnxruntime
from dff_edge.errors import OutOfMemoryError
from dff_edge.frames import Frame
from dff_edge.runtime.pipeline import Pipeline

def limit(mb):
    with open("/proc/self/statm") as file:
        pages = int(file.read().split()[0])
    most = pages * resource.getpagesize() + mb * 1_000_000
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("bundle") / "small", (64, 128))


def run(code):
    return subprocess.run(
        [sys.executable, "-c", LIMIT + code],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def test_frame_that_is_too_large_is_not_taken_and_the_next_is(bundle):
    done = run(f"""
pipeline = Pipeline.open({str(bundle.path)!r}, threads=1, depth=2)
small = np.zeros((64, 128, 3), np.uint8)
pipeline.submit(small)
pipeline.poll(block=True)
colour, grey = np.zeros((4320, 7680, 3), np.uint8), np.zeros((4320, 7680), np.uint8)
limit(20)
for image in (grey, colour, Frame(colour, 1, 0.0)):
    try:
        pipeline.submit(image)
    except OutOfMemoryError as error:
        print(error)
for _ in range(5):
    pipeline.submit(small)
    print(pipeline.poll(block=True).frame.index)
""")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert [line.split(" (")[0] for line in lines[:3]] == ["submit(): out of memory"] * 3
    assert "Failed to allocate 99532800 bytes" in lines[0]  # 4320 x 7680 x 3
    assert "Use smaller frames" in lines[0]
    assert lines[3:] == ["1", "2", "3", "4", "5"]


def test_pipeline_that_finds_no_room_says_so_and_leaves_no_thread(bundle):
    done = run(f"""
import threading
Pipeline.open({str(bundle.path)!r}).close()
np.empty = lambda *_: (_ for _ in ()).throw(MemoryError("Unable to allocate 3 GiB"))
try:
    Pipeline.open({str(bundle.path)!r}, depth=16)
except OutOfMemoryError as error:
    print(error)
print(threading.enumerate())
""")
    assert (done.returncode, done.stderr) == (0, "")
    message, threads = done.stdout.splitlines()
    assert message.startswith(
        "opening the pipeline: out of memory (Unable to allocate 3 GiB). Use smaller frames or "
        "fewer in flight (depth)"
    )
    assert "dff-" not in threads


def test_command_says_it_in_a_line(bundle):
    done = run(f"""
from dff_edge.cli import main
import dff_edge.cli.run, dff_edge.runtime.live, dff_edge.synthetic, rich.progress
limit(100)
main(["run", {str(bundle.path)!r}, "synthetic://street?frames=3&height=4320&width=7680"])
""")
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("Error: out of memory (")


def test_every_way_of_saying_it_is_understood():
    with pytest.raises(cv2.error) as failure:
        cv2.copyMakeBorder(np.zeros((1, 1), np.uint8), 1 << 20, 0, 1 << 30, 0, cv2.BORDER_REPLICATE)
    opencv = failure.value
    assert is_out_of_memory(opencv)
    assert words_of(opencv).startswith("out of memory (Failed to allocate ")
    assert is_out_of_memory(OSError(12, "Cannot allocate memory"))
    assert is_out_of_memory(RuntimeError("Exception during initialization: std::bad_alloc"))
    assert is_out_of_memory(ImportError("libav.so: failed to map segment from shared object"))
    assert not is_out_of_memory(OSError(28, "No space left on device"))
    assert not is_out_of_memory(ValueError("-4"))


def test_other_failures_pass_as_they_are():
    with pytest.raises(KeyError, match="mine"), raises_out_of_memory("reading"):
        raise KeyError("mine")
    told = OutOfMemoryError("told before")
    with pytest.raises(OutOfMemoryError) as passed, raises_out_of_memory("reading"):
        raise told
    assert passed.value is told


def test_system_that_grants_no_thread_is_named(monkeypatch):
    def refuse(*_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("threading.Thread.start", refuse)
    with pytest.raises(
        OutOfMemoryError, match=r"'dff-flow' could not be started: can't.*ulimit -u"
    ):
        Worker(lambda: None, "dff-flow").start()
