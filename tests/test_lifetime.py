"""Open objects end when they are dropped and with the process, which most tests let end."""

import gc
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from dff_edge.errors import PipelineError
from dff_edge.frames import Frame, Result
from dff_edge.lifetime import Closing, Worker, bind, inner_of, release
from dff_edge.runtime.devices.cpu import CpuStream
from dff_edge.runtime.pipeline import Pipeline
from dff_edge.runtime.policy import KeyFramePolicy
from dff_edge.runtime.sinks import FanOut, Style, open_sink
from dff_edge.runtime.sources import open_source
from dff_edge.runtime.sources.camera import CameraSource
from dff_edge.runtime.sources.capture import Shot
from tests.bundle.bundles import make_bundle
from tests.workers import running_workers

TIMEOUT_S = 60  # of a process that ends at once when the code is right, on a busy machine
WAIT_S = 10
SMALL = np.zeros((64, 128, 3), np.uint8)
# The feature network and, in the caller's thread, the resizer go in and out of native code for half
# a second a frame.
IN_FLIGHT = """
import os, sys, threading, time
import numpy as np
from dff_edge.runtime.pipeline import Pipeline

def lengthen(thing, name):
    call = getattr(thing, name)
    def again_and_again(*arguments):
        end_s = time.monotonic() + 0.5
        while time.monotonic() < end_s:
            call(*arguments)
    setattr(thing, name, again_and_again)

image = np.zeros((480, 640, 3), np.uint8)
pipeline = Pipeline.open({bundle!r}, threads=1)
lengthen(pipeline._opened.subnets.feature, "run")
pipeline.submit(image)
pipeline.submit(image)
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("bundle") / "small", (64, 128))


def run(code):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )


@pytest.mark.parametrize(
    ("end", "code", "last_line"),
    [
        ("sys.exit(3)", 3, None),
        ("raise RuntimeError('mine')", 1, "RuntimeError: mine"),
        ("raise KeyboardInterrupt", -2, "KeyboardInterrupt"),
        ("os._exit(4)", 4, None),
        ("threading.Thread(target=lambda: sys.exit(7)).start()", 0, None),
        ("pass", 0, None),
    ],
)
def test_process_ends_as_it_was_told_with_frames_in_flight(bundle, end, code, last_line):
    done = run(IN_FLIGHT.format(bundle=str(bundle.path)) + end)
    assert done.returncode == code, done.stderr
    assert done.stderr.splitlines()[-1:] == ([last_line] if last_line else [])


def test_process_ends_while_a_thread_of_the_users_is_in_a_call(bundle):
    """A daemon thread that came back from native code would abort the process."""
    loop = """
lengthen(pipeline._scheduler._enqueuer._resizer, "half")
is_called = threading.Event()
def loop():
    pipeline.poll(block=True)
    is_called.set()
    while True:
        pipeline.submit(image)
threading.Thread(target=loop, daemon=True).start()
is_called.wait()
sys.exit(5)
"""
    done = run(IN_FLIGHT.format(bundle=str(bundle.path)) + loop)
    assert done.returncode == 5, done.stderr
    assert "terminate" not in done.stderr


def test_what_was_left_open_is_finished_at_the_end(bundle, tmp_path):
    """The sink has what it was given, whoever forgot to close it."""
    code = f"""
import sys
from dff_edge.runtime.pipeline import Pipeline
from dff_edge.runtime.sinks import FanOut, open_sink
from dff_edge.runtime.sources import open_source

pipeline = Pipeline.open({str(bundle.path)!r})
paced = open_source("synthetic://street?frames=100&rate=1000")
source = open_source("synthetic://street?frames=30")
sinks = FanOut(live=False)
names = [str(number) for number in range(3)]
colours = [(0, 0, 0)] * 3
for path in ("out.mp4", "out.jsonl"):
    sinks.add(open_sink({str(tmp_path)!r} + "/" + path, classes=names, colours=colours, fps=30))
paced.read(10)
for result in pipeline.run(source):
    sinks.write(result)
    if result.frame.index == 19:
        sys.exit(3)
"""
    import av

    done = run(code)
    assert (done.returncode, done.stderr) == (3, "")
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 20
    with av.open(str(tmp_path / "out.mp4")) as video:
        assert sum(1 for _ in video.decode(video=0)) == 20


@pytest.mark.parametrize("end", ["pass", "del sink", "sys.exit(0)"])
def test_sink_that_nobody_closed_has_all_that_it_was_given(tmp_path, end):
    import av

    done = run(f"""
import sys
import numpy as np
from dff_edge.frames import Frame, Result
from dff_edge.runtime.sinks import open_sink

image = np.zeros((64, 128, 3), np.uint8)
path = {str(tmp_path / "out.mp4")!r}
sink = open_sink(path, classes=["a"], colours=[(0, 0, 0)], fps=30)
for index in range(50):
    sink.write(Result(Frame(image, index, index / 30), image[..., 0], 0, 0.0, {{}}))
{end}
""")
    assert (done.returncode, done.stderr) == (0, "")
    with av.open(str(tmp_path / "out.mp4")) as video:
        assert sum(1 for _ in video.decode(video=0)) == 50


def test_dropped_pipelines_leave_neither_threads_nor_memory(bundle):
    def open_and_drop():
        pipeline = Pipeline.open(bundle, threads=2)
        for _ in range(3):
            pipeline.submit(SMALL)
        assert len(running_workers()) == 4

    def resident_mb():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

    for _ in range(30):
        open_and_drop()
    before_mb = resident_mb()
    for _ in range(70):
        open_and_drop()
        assert running_workers() == []
    # A pipeline is 1.1 MB here. What was seen: 0.2.
    assert resident_mb() - before_mb < 8


def test_pipeline_in_a_cycle_ends_with_it(bundle):
    class Robot(KeyFramePolicy):
        """A policy that knows its pipeline."""

        def __init__(self):
            self.pipeline = Pipeline.open(bundle, policy=self, threads=1)
            self.results = self.pipeline.run(iter([]))

        def is_key(self, context):
            return True

    robot = Robot()
    robot.pipeline.submit(SMALL)
    assert len(running_workers()) == 4
    del robot
    gc.collect()
    assert running_workers() == []


def test_pipeline_whose_stage_failed_can_be_dropped(bundle, monkeypatch):
    pipeline = Pipeline.open(bundle, threads=1)
    monkeypatch.setattr(pipeline._opened.subnets.flow, "run", lambda *_: 1 / 0)
    pipeline.submit(SMALL)
    pipeline.submit(SMALL)
    with pytest.raises(PipelineError, match="division by zero") as failure:
        [pipeline.poll(block=True) for _ in range(2)]
    del failure, pipeline
    gc.collect()
    assert running_workers() == []


def test_stream_that_another_streams_thread_drops_is_not_waited_for_there():
    """The collector of garbage runs in any thread: here in one that the dropped one waits for."""
    first, second = CpuStream("first"), [CpuStream("second")]
    thread = second[0]._thread
    go_on, event = threading.Event(), first.event()

    def drop():
        go_on.wait(WAIT_S)
        second.clear()

    first.enqueue(drop)
    first.record(event)
    second[0].wait(event)  # which comes after the drop
    go_on.set()
    thread.join(WAIT_S)
    assert not thread.is_alive()
    first.close()


def test_interrupted_join_can_be_repeated():
    """Python takes the thread for ended then, and frees under it what it works on."""
    go_on = threading.Event()
    worker = Worker(lambda: go_on.wait(WAIT_S), "held")
    worker.start()
    previous = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    try:
        with pytest.raises(KeyboardInterrupt):
            worker.join()
    finally:
        signal.signal(signal.SIGALRM, previous)
    assert worker.is_alive()
    joining = threading.Thread(target=worker.join)
    joining.start()
    joining.join(0.05)
    assert joining.is_alive()
    go_on.set()
    joining.join(WAIT_S)
    assert not joining.is_alive()
    assert not worker.is_alive()


def test_thread_that_never_returns_is_left_behind_at_exit():
    done = run("""
import threading
from dff_edge import lifetime
lifetime.EXIT_S = 0.2
lifetime.Worker(lambda: threading.Event().wait(), "of a driver").start()
""")
    assert done.returncode == 0
    assert done.stderr.strip() == "thread 'of a driver' does not return from a call; left behind"


def test_inner_object_shares_what_is_set_later():
    class Thing:
        pass

    thing = Thing()
    inner = inner_of(thing)
    thing.seen = 1
    inner.told = 2
    assert (inner.seen, thing.told, type(inner)) == (1, 2, Thing)


def test_what_was_released_is_not_ended():
    class Thing:
        pass

    thing, ends = Thing(), []
    bind(thing, dropped=lambda: ends.append("dropped"))
    release(thing)
    del thing
    assert ends == []


def test_ends_come_newest_first_and_one_that_fails_stops_no_other():
    done = run("""
from dff_edge.lifetime import bind

class Thing:
    def __init__(self, name):
        self.name = name
        bind(self, at_exit=Thing.end)
    def end(self):
        print(self.name)
        if self.name == "second":
            raise OSError("its disk is gone")
        if self.name == "third":
            raise KeyboardInterrupt

things = [Thing(name) for name in ("first", "second", "third", "fourth")]
""")
    assert done.returncode == 0
    assert done.stdout.split() == ["fourth", "third", "second", "first"]
    assert "an object that was left open could not be closed" in done.stderr
    assert done.stderr.splitlines()[-1] == "OSError: its disk is gone"


class Camera:
    """A camera that gives frames for ever."""

    fps = size = None

    def __init__(self, released):
        self._released = released

    def read(self):
        return Shot(SMALL, time.monotonic())

    def release(self):
        self._released.append(threading.current_thread().name)


def test_dropped_camera_is_let_go():
    released = []
    camera = CameraSource(lambda: Camera(released), "camera 0")
    assert camera.read(WAIT_S) is not None
    del camera
    assert released == ["dff-edge camera 0 reader"]
    assert running_workers("dff-edge camera") == []


def test_dropped_recording_is_no_longer_played():
    source = open_source("synthetic://street?frames=100&rate=1")
    assert source.read(WAIT_S) is not None  # it waits for the second
    del source
    assert running_workers("dff-edge synthetic") == []


def test_dropped_outputs_are_closed(tmp_path):
    path = tmp_path / "out.jsonl"
    sinks = FanOut(live=False)
    sinks.add(open_sink(path, classes=["a"], colours=[(0, 0, 0)], fps=30))
    for index in range(5):
        sinks.write(Result(Frame(SMALL, index, 0.0), SMALL[..., 0], 0, 0.0, {}))
    del sinks
    assert running_workers("dff-sink") == []
    assert len(path.read_text().splitlines()) == 5


def test_dropped_page_is_no_longer_served():
    serve = pytest.importorskip("dff_edge.serve", exc_type=ImportError)
    server = serve.open_server(
        serve.parse_address("127.0.0.1:0"),
        sources=["synthetic://street"],
        classes=["a"],
        colours=[(0, 0, 0)],
        style=Style(),
    )
    address = ("127.0.0.1", server.address.port)
    socket.create_connection(address, WAIT_S).close()
    del server
    assert running_workers("dff-serve") == []
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, WAIT_S)


def test_what_closes_is_closed_at_the_end_of_its_block_whatever_happens_in_it():
    class Door(Closing):
        is_open = True

        def close(self):
            self.is_open = False

    with Door() as door:
        assert door.is_open
    assert not door.is_open
    with pytest.raises(KeyError), Door() as door:
        raise KeyError
    assert not door.is_open
