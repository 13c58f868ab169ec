"""Open objects in forked children: refused at once, and the parent's live to the end.

A script for each process; the child ends by the clock if it hangs.
"""

import subprocess
import sys

import av
import pytest

from tests.bundle.bundles import make_bundle

TIMEOUT_S = 60
FORK = """
import multiprocessing, os, signal, sys, threading
import numpy as np
from dff_edge.errors import ForkError
from dff_edge.runtime.pipeline import Pipeline

def fork(in_child):
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)
        in_child()
        sys.exit(0)  # through the end of the interpreter, which frees what it can
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    print("child", code, flush=True)

def refused(**calls):
    for name, call in calls.items():
        try:
            call()
        except ForkError as error:
            assert f"in process {os.getppid()}, and process {os.getpid()}" in str(error), error
            assert "spawn" in str(error)
        else:
            print(name, "was not refused")

image = np.random.default_rng(0).integers(0, 256, (64, 128, 3), dtype=np.uint8)
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("bundle") / "small", (64, 128))


def run(code):
    done = subprocess.run(
        [sys.executable, "-c", FORK + code],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_every_call_of_an_inherited_pipeline_is_refused_and_the_parents_goes_on(bundle):
    lines = run(f"""
from dff_edge.runtime.sources import open_source
pipeline = Pipeline.open({str(bundle.path)!r}, threads=2)
results = pipeline.run(open_source("synthetic://street?frames=9"))
first = next(results)

def in_child():
    refused(
        submit=lambda: pipeline.submit(image), poll=lambda: pipeline.poll(),
        wait=lambda: pipeline.poll(block=True), run=lambda: next(pipeline.run([])),
        going_on=lambda: next(results), reset=pipeline_call("reset"),
        force_key=pipeline_call("force_key"), full=lambda: pipeline.is_full,
        leave=lambda: Pipeline.__exit__(pipeline, None, None, None), close=pipeline_call("close"),
        enter=lambda: pipeline.__enter__(), scheduler=lambda: scheduler.collect(),
        engine=lambda: engine.close(),
    )
    assert isinstance(pipeline, Pipeline)
    with Pipeline.open({str(bundle.path)!r}, threads=2) as own:
        own.submit(image)
        print("own", own.poll(block=True).labels.shape)

pipeline_call = lambda name: lambda: getattr(pipeline, name)()
scheduler, engine = pipeline._scheduler, pipeline._opened.subnets.feature
fork(lambda: None)
fork(in_child)
print("parent", len([first, *results]))
pipeline.close()
""")
    assert lines == ["child 0", "own (64, 128)", "child 0", "parent 9"]


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_child_frees_no_engine_of_its_parent(bundle, engine):
    """Freeing one waits for its threads, which the child has not."""
    pytest.importorskip(engine)
    lines = run(f"""
pipelines = [Pipeline.open({str(bundle.path)!r}, threads=2, engine={engine!r})]

def in_child():
    pipelines.clear()

fork(in_child)
context = multiprocessing.get_context("fork")
child = context.Process(target=in_child)
child.start()
child.join(20)
print("process", child.exitcode)
pipelines[0].submit(image)
print("parent", pipelines[0].poll(block=True).labels.shape)
""")
    assert lines == ["child 0", "process 0", "parent (64, 128)"]


def test_sources_and_sinks_are_the_parents(bundle, tmp_path):
    """A child that closed them would end the camera's session and the file."""
    path = tmp_path / "out.mp4"
    lines = run(f"""
from dff_edge.frames import Frame, Result
from dff_edge.runtime.sinks import FanOut, open_sink
from dff_edge.runtime.sources import open_source
from dff_edge.runtime.sources.camera import CameraSource
from dff_edge.runtime.sources.capture import Shot
import time

class Capture:
    fps = size = None
    def read(self):
        time.sleep(0.001)  # it is a camera
        return Shot(image, time.monotonic())
    def release(self):
        print("released", flush=True)

def sink(uri):
    return open_sink(uri, classes=["a", "b", "c"], colours=[(0, 0, 0)] * 3, fps=30)

camera = CameraSource(Capture, "camera 0")
paced = open_source("synthetic://street?rate=1000")
sinks = FanOut(live=False)
sinks.add(sink({str(path)!r}))
video, lines = sink({str(tmp_path / "more.mp4")!r}), sink({str(tmp_path / "out.jsonl")!r})
result = Result(Frame(image, 0, 0.0), image[..., 0] % 3, 0, 0.0, {{}})
for where in (sinks, video, lines):
    where.write(result)
file = open_source("synthetic://street")

def in_child():
    refused(
        camera=lambda: camera.read(1), close_camera=lambda: camera.close(),
        state=lambda: camera.state, paced=lambda: next(paced), close_paced=lambda: paced.close(),
        file=lambda: next(file), close_file=lambda: file.close(),
        sinks=lambda: sinks.write(result), close_sinks=lambda: sinks.close(),
        video=lambda: video.write(result), close_video=lambda: video.close(),
        lines=lambda: lines.write(result), close_lines=lambda: lines.close(),
    )

fork(in_child)
assert camera.read(10) is not None
assert paced.read(10) is not None
assert next(file).index == 0
for where in (sinks, video, lines):
    where.write(result)
    where.close()
camera.close()
""")
    assert lines == ["child 0", "released"]
    for video in (path, tmp_path / "more.mp4"):
        with av.open(str(video)) as container:
            assert sum(1 for _ in container.decode(video=0)) == 2


def test_page_is_served_by_the_parent():
    pytest.importorskip("aiohttp")
    lines = run("""
import urllib.request
from dff_edge.runtime.sinks import Style
from dff_edge.serve import open_server, parse_address

server = open_server(
    parse_address("127.0.0.1:0"), sources=["synthetic://street"],
    classes=["a"], colours=[(0, 0, 0)], style=Style(),
)
fork(lambda: refused(channels=lambda: server.channels, close=lambda: server.close()))
with urllib.request.urlopen(server.url, timeout=20) as answer:
    print(answer.status)
server.close()
""")
    assert lines == ["child 0", "200"]


def test_programs_are_started_as_ever(bundle):
    lines = run(f"""
import subprocess
with Pipeline.open({str(bundle.path)!r}, threads=2) as pipeline:
    pipeline.submit(image)
    print(subprocess.run(["echo", "hello"], capture_output=True, text=True).stdout, end="")
    with multiprocessing.get_context("fork").Pool(2) as pool:
        print(pool.map(abs, [-1, -2]))
    print(pipeline.poll(block=True).labels.shape)
""")
    assert lines == ["hello", "[1, 2]", "(64, 128)"]
